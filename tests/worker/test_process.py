"""How a worker process begins, in real processes with the test as their primary."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.raw_frames import FrameReader, Kind, decode_json, encode, encode_json
from tests.shells import ShellCase
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.ipc.channel import channel_pair
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair

ROOT = Path(__file__).resolve().parents[2]

APPLICATION = """
import os
from twisted.internet.protocol import Factory, Protocol

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(os.environ["TXSTICKY_WORKER"].encode() + data)

echo = Factory.forProtocol(Echo)
"""


class BootCase(ShellCase):
    """A worker process, its primary being the test."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "booted.py").write_text(APPLICATION)
        self.process: subprocess.Popen[bytes] | None = None
        self.frames: list[tuple[Kind, bytes]] = []
        self._reader = FrameReader(1 << 22)
        self.addCleanup(self.end)

    def end(self) -> None:
        """No process survives the test."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def boot(
        self, module: str = "txsticky.worker.process", more: Any = None, **options: Any
    ) -> None:
        """
        Start a worker and tell it what it is.

        :param more: what else the first frame says.
        """
        sending, reading = mailbox_pair()
        self.mailbox = MailboxTransport(sending, self.reactor)
        self.addCleanup(self.mailbox.loseConnection)
        desk, desk_reading = mailbox_pair()
        ours, theirs = channel_pair()
        ours.settimeout(30)
        self.channel = self.owned(ours)
        self.owned(desk_reading)
        self.listener = self.listening()
        inherited = [end.fileno() for end in (theirs, reading, desk, self.listener)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), " " * 16],
            pass_fds=inherited,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{self.directory}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        pool = Pool()
        pool.add(1, 4)
        self.channel.sendall(
            encode_json(
                Kind.BOOT,
                id=1,
                slot=4,
                generation=1,
                config=Config(**{"app": "booted:echo", **options}).to_json(),
                secret="00" * 16,
                pool=pool.view(),
                table_limit=100,
                table_ttl=60.0,
                mailbox=reading.fileno(),
                front_desk=desk.fileno(),
                listeners=[[0, self.listener.fileno()]],
                **(more or {}),
            )
        )
        for end in (theirs, reading, desk):
            end.close()

    def hear(self, kind: Kind) -> Any:
        """Wait until the worker says this; returns what it says."""
        while True:
            for heard, body in self.frames:
                if heard is kind:
                    return decode_json(body)
            data = self.channel.recv(65536)
            if not data:
                self.fail(f"it ended: {self.output()}")
            self.frames += self._reader.feed(data)

    def output(self) -> str:
        """Wait for the end of the process, and return what it has said."""
        assert self.process is not None
        return self.process.communicate(timeout=30)[0].decode()

    def status(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        assert self.process is not None
        return self.process.wait(30)

    def ask(self, data: bytes) -> bytes:
        """Hand the worker a connection with some bytes read; returns its answer."""
        server, client = socket.socketpair()
        self.owned(client)
        client.settimeout(30)
        self.mailbox.sendFileDescriptor(server.detach())
        self.mailbox.write(
            pack_handoff(
                Handoff(family=socket.AF_UNIX, origin=Origin(("", 0)), how=How.NEW, prefix=data)
            )
        )
        return client.recv(100)


class StartTests(BootCase):
    """The start of a worker."""

    def test_serves(self) -> None:
        """A worker loads the application, says READY, and serves what is in its mailbox."""
        self.boot()
        self.assertEqual(self.hear(Kind.READY), {"interface": "protocol", "http": False})
        self.assertEqual(self.ask(b" hello"), b"4 hello")

    def test_of_an_old_primary(self) -> None:
        """A primary of version 0.1.0 starts a worker by another name, and says no protocol."""
        self.boot(module="txsticky.boot")
        self.assertEqual(self.hear(Kind.READY), {"interface": "protocol", "http": False})
        self.assertEqual(self.ask(b" hello"), b"4 hello")

    def test_of_another_protocol(self) -> None:
        """A primary that this version does not understand is told so; the exit code is 3."""
        self.boot(more={"protocol": 99, "news": True})
        self.assertIn("the program that runs speaks 99", self.hear(Kind.FAILED)["reason"])
        self.assertEqual(self.status(), 3)

    def test_accepts(self) -> None:
        """A worker that is told to accepts on the sockets that it has inherited."""
        self.boot()
        self.hear(Kind.READY)
        client = self.owned(socket.create_connection(self.listener.getsockname()))
        client.settimeout(0.3)
        self.assertRaises(TimeoutError, client.recv, 100)
        self.channel.sendall(encode(Kind.ACCEPT))
        client.settimeout(30)
        client.sendall(b" hello")
        self.assertEqual(client.recv(100), b"4 hello")

    def test_title(self) -> None:
        """A worker shows itself under its own name."""
        self.boot()
        self.hear(Kind.READY)
        assert self.process is not None
        shown = Path(f"/proc/{self.process.pid}/cmdline").read_bytes()
        self.assertEqual(shown.rstrip(b"\0"), b"txsticky: worker 4")

    def test_not_found(self) -> None:
        """An application that is not there is told, and the exit code is 3."""
        self.boot(app="booted:nothing")
        self.assertIn("booted:nothing", self.hear(Kind.FAILED)["reason"])
        self.assertEqual(self.status(), 3)

    def test_certificate(self) -> None:
        """A certificate that is not there any more is told, and the exit code is 3."""
        self.boot(tls_cert=["/no/cert.pem"], tls_key=["/no/key.pem"])
        self.assertIn("/no/cert.pem", self.hear(Kind.FAILED)["reason"])

    def test_no_primary(self) -> None:
        """If the primary has gone before it said anything, the worker ends without a word."""
        ours, theirs = channel_pair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "txsticky.worker.process", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        ours.close()
        theirs.close()
        self.assertEqual((self.output(), self.status()), ("", 0))


class EndTests(BootCase):
    """The end of a worker."""

    def setUp(self) -> None:
        super().setUp()
        self.boot()
        self.hear(Kind.READY)

    def send_signal(self, number: int) -> None:
        """Send the worker a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def test_drained(self) -> None:
        """A worker that is told to leave when the cluster stops leaves with exit code 0."""
        self.channel.sendall(encode_json(Kind.DRAIN, seconds=10.0, final=True))
        self.assertEqual(self.status(), 0)

    def test_primary_dies(self) -> None:
        """If the primary dies, the worker leaves."""
        self.channel.close()
        self.assertEqual(self.status(), 0)

    def test_quit(self) -> None:
        """QUIT ends a worker quickly, in order."""
        self.send_signal(signal.SIGQUIT)
        self.assertEqual(self.status(), 0)

    def test_term(self) -> None:
        """TERM, sent by hand, makes a worker ask to be replaced; it goes on serving."""
        self.send_signal(signal.SIGTERM)
        while not any(kind is Kind.RETIRE for kind, _ in self.frames):
            self.frames += self._reader.feed(self.channel.recv(65536))
        self.assertEqual(self.ask(b" hello"), b"4 hello")

    def test_terminal(self) -> None:
        """INT and HUP do nothing to a worker: they are for the primary."""
        self.send_signal(signal.SIGINT)
        self.send_signal(signal.SIGHUP)
        self.assertEqual(self.ask(b" hello"), b"4 hello")

    def test_last_words(self) -> None:
        """What a worker logs at its end still reaches the primary."""
        self.channel.sendall(encode_json(Kind.DRAIN, seconds=10.0, final=True))
        self.assertIn("Main loop terminated", self.output())
