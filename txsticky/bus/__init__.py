"""Publish and subscribe: the hub in the primary, and Redis between machines."""
