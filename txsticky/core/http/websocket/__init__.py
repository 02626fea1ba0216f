"""WebSockets that may move: their handshakes as values, and where their messages end (RFC 6455)."""
