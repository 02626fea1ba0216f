"""HTTP/1.1 and PROXY, bytes to values: heads, framing, conversations, refusals."""
