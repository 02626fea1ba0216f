"""Sockets: what the operating system does with them beyond what Python and Twisted name."""
