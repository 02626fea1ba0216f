"""Twisted transports that can be taken away and adopted, and the gate in them."""
