"""WebSockets that may move, as values."""
