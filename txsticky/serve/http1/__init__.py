"""The HTTP/1.1 channel for requests that the gate has parsed: its interface and its parts."""
