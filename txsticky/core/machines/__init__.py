"""Balancers in front of several machines: what they have to know, and their configurations."""
