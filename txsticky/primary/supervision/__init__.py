"""Keeps the workers running: the supervisor decides, and the workers' handles carry it out."""
