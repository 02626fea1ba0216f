"""WebSockets that may move: what a gate does about them."""
