"""
One plain Twisted server: ``python -m benchmarks.apps.alone MODULE PORT [reuseport]``.

It serves `MODULE.site` on 127.0.0.1; with ``reuseport`` several of them share the port.
"""

from __future__ import annotations

import importlib
import socket
import sys

from twisted.internet import reactor


def main(module: str, port: str, *options: str) -> None:
    """Serve."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "reuseport" in options:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(4096)
    listener.setblocking(False)
    site = importlib.import_module(module).site
    reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, site)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(*sys.argv[1:])
