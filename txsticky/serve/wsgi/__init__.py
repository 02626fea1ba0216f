"""WSGI applications (PEP 3333), in threads beside the HTTP/1.1 channel."""
