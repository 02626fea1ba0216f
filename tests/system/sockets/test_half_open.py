"""What the kernel holds that no backlog has."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.sockets import half_open as module
from txsticky.system.sockets.half_open import half_open, in_tables

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
LINE = "   0: 0100007F:{port:04X} 0100007F:0050 {state} 00000000:00000000 00:00000000 00000000 0\n"


class TableTests(SynchronousTestCase):
    """Tables as the kernel writes them."""

    def found(self, *lines: str) -> bool:
        """What is found for port 8080."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(HEAD + "".join(lines))
            file.flush()
            return in_tables({8080}, [str(Path("/", "no", "such")), file.name])

    def test_half_open(self) -> None:
        """A connection in state 03 is half open, also behind a table that is not there."""
        self.assertTrue(self.found(LINE.format(port=8080, state="03")))

    def test_of_another_port(self) -> None:
        """A connection of another port is not half open here."""
        self.assertFalse(self.found(LINE.format(port=8081, state="03")))

    def test_in_another_state(self) -> None:
        """A connection that is established, or a socket that listens, is not half open."""
        lines = [LINE.format(port=8080, state=state) for state in ("01", "0A")]
        self.assertFalse(self.found(*lines))

    def test_none(self) -> None:
        """A table without a connection has none."""
        self.assertFalse(self.found())


class KernelTests(SynchronousTestCase):
    """The kernel's own tables."""

    def seen(self, family: int, host: str) -> None:
        """A silent connection to a socket that defers is seen until it has said something."""
        with socket.socket(family) as listening:
            listening.bind((host, 0))
            listening.listen(5)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            port = listening.getsockname()[1]
            self.assertFalse(half_open({port}))
            with socket.create_connection((host, port)) as client:
                self.assertTrue(half_open({port}))
                client.sendall(b"x")
                listening.accept()[0].close()
                self.assertFalse(half_open({port}))

    def test_ipv4(self) -> None:
        """A half-open connection over IPv4 is seen."""
        self.seen(socket.AF_INET, "127.0.0.1")

    def test_ipv6(self) -> None:
        """A half-open connection over IPv6 is seen."""
        self.seen(socket.AF_INET6, "::1")

    def test_other_port(self) -> None:
        """A port at which no client is silent has none."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            port = listening.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                self.assertFalse(half_open({port + 1}))


class ConfinedTests(KernelTests):
    """A kernel that answers no question has tables all the same."""

    def setUp(self) -> None:
        self.patch(module, "_SOCK_DIAG", 255)  # there is no such protocol


class RefusingTests(KernelTests):
    """A kernel that answers with an error has tables all the same."""

    def setUp(self) -> None:
        self.patch(module, "_BY_FAMILY", 255)  # there is no such request
