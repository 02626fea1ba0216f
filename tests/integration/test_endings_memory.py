"""What closed connections keep in memory, next to uvicorn alone; Python's collector is off."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes, rawws
from tests.integration.cluster import Server
from tests.integration.endings import INTERFACES, Alone, Clustered, Papers, ending
from tests.integration.rawhttp import payload, request

KEEP = {"ENDINGS_KEEP": "1"}
CONNECTIONS, BODY = 400, payload(60_000)
#: Bytes that a connection may leave more than under uvicorn. One that is kept has its buffers, of
#: tens of KiB.
MORE = 4096


def hammer(server: Server, count: int) -> None:
    """Make so many connections, one after the other, one in four a WebSocket."""
    for number in range(count):
        with server.connect() as connection:
            if number % 4:
                headers = [("Connection", "close")]
                connection.ask(request("POST", "/", headers=headers, body=BODY))
            else:
                rawws.join(connection)
                connection.send(rawws.frame(b"close"))
                rawws.message(connection.reader)
                connection.send(rawws.frame(b"\x0f\xa0", rawws.CLOSE))
            ending(connection)


def grown(server: Server) -> int:
    """By how many bytes the process that serves grows."""

    def size() -> int:
        found = [
            process for process in server.living() if process.slot or isinstance(server, Alone)
        ]
        return max(processes.memory(process.pid) for process in found)

    with server:
        hammer(server, CONNECTIONS // 4)
        before = size()
        hammer(server, CONNECTIONS)
        return size() - before


class Memory(SynchronousTestCase):
    """ASGI."""

    def compare(self, name: str, papers: Any = None) -> None:
        """Assert that a worker keeps about as much as uvicorn."""
        interface = INTERFACES[name]
        alone = grown(Alone(interface, papers, KEEP))
        ours = grown(Clustered(interface, papers, workers=1, environment=KEEP))
        self.assertLess(ours, alone + CONNECTIONS * MORE)

    def test_clear(self) -> None:
        """In the clear a worker keeps about as much as uvicorn, with both parsers."""
        self.compare("Httptools")
        self.compare("H11")

    def test_tls(self) -> None:
        """Over TLS a worker keeps about as much as uvicorn."""
        papers = Papers()
        self.addCleanup(papers.remove)
        self.compare("Httptools", papers)
