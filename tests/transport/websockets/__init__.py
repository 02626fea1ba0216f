"""What a gate does about WebSockets that may move."""
