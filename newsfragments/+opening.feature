Where neither the operator nor the application has WebSockets move, the response to a handshake is not taken apart, and opening a WebSocket costs less once more.
