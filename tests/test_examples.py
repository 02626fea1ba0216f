"""Each example is started by the command that its docstring gives, and does what it says."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import START, Server, ServerTestCase, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def command(folder: str) -> list[str]:
    """The arguments after `twist txsticky` in the docstring of the example's server."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / folder / "server.py").read_text()))
    found = re.search(r"^ +twist txsticky (.+)$", docstring or "", re.MULTILINE)
    if found is None:
        raise AssertionError(f"examples/{folder}/server.py does not say how to start it")
    return found[1].split()


class Example(Server):
    """An example with two workers, its folder on the path: as good as to be in it."""

    def __init__(self, folder: str, probe: str) -> None:
        port = free_port()
        *options, app = command(folder)
        listen = f"tcp:{port}:interface=127.0.0.1"
        super().__init__(
            ["-m", "txsticky", "--listen", listen, *options, "--workers", "2", app],
            port,
            {"PYTHONPATH": str(EXAMPLES / folder)},
        )
        self.probe = probe


class ReadmeTests(SynchronousTestCase):
    """examples/README.rst."""

    def test_commands(self) -> None:
        """It names every example, with the command of its docstring."""
        readme = " ".join((EXAMPLES / "README.rst").read_text().split())
        folders = [path.name for path in EXAMPLES.iterdir() if (path / "server.py").exists()]
        self.assertTrue(folders)
        for folder in folders:
            self.assertIn(f"``{folder}`` ``twist txsticky {' '.join(command(folder))}``", readme)


class WebSocketEchoTests(ServerTestCase):
    """examples/websocket_echo."""

    def server(self) -> Server:
        return Example("websocket_echo", probe="")

    def talk(self) -> subprocess.CompletedProcess[str]:
        client = EXAMPLES / "websocket_echo" / "client.py"
        url = f"ws://127.0.0.1:{self._shared.port}"
        return subprocess.run(
            [sys.executable, str(client), url, "8", "5"],
            capture_output=True,
            text=True,
            timeout=START,
            check=False,
        )

    def test_client(self) -> None:
        """The client gets all messages back from both workers."""
        until(
            lambda: set(re.findall(r"worker (\d)", self.talk().stdout)) == {"1", "2"},
            START,
            "eight connections meet both workers",
        )
        lines = self.talk().stdout.splitlines()
        self.assertEqual(len(lines), 8)
        for line in lines:
            self.assertRegex(line, r"^connection \d: worker \d sent all 5 messages back$")


class ChatTests(ServerTestCase):
    """examples/chat."""

    def server(self) -> Server:
        return Example("chat", probe="/")

    def enter(self) -> tuple[Connection, str]:
        """Somebody comes in; returns the connection, and the worker that says so."""
        connection = self._shared.connect()
        self.addCleanup(connection.close)
        rawws.join(connection)
        _, said = rawws.message(connection.reader)
        return connection, said.decode().rstrip(".").rsplit(" ", 1)[1]

    def pair(self) -> tuple[Connection, Connection, str]:
        """Two people on different workers, and the worker of the first."""
        found: list[tuple[Connection, Connection, str]] = []

        def apart() -> bool:
            first, here = self.enter()
            second, there = self.enter()
            rawws.message(first.reader)  # the second came in
            found.append((first, second, here))
            return here != there

        until(apart, START, "two who come in are on different workers")
        return found[-1]

    def test_everybody_hears(self) -> None:
        """What one says is heard on the other worker, and by the speaker."""
        first, second, worker = self.pair()
        first.send(rawws.frame(b"hello"))
        heard = (rawws.TEXT, f"worker {worker}: hello".encode())
        self.assertEqual([rawws.message(c.reader) for c in (first, second)], [heard, heard])

    def test_page(self) -> None:
        """The page is served."""
        self.assertIn(b"<title>Chat</title>", self._shared.get("/").body)


class UploadFlaskTests(ServerTestCase):
    """examples/upload_flask."""

    KIND: ClassVar[tuple[str, str]] = ("Content-Type", "multipart/form-data; boundary=edge")

    def server(self) -> Server:
        return Example("upload_flask", probe="/")

    def upload(self, field: str, data: bytes, piece: int) -> tuple[int, dict[str, object]]:
        disposition = f'Content-Disposition: form-data; name="{field}"; filename="a.bin"'
        body = f"--edge\r\n{disposition}\r\n\r\n".encode() + data + b"\r\n--edge--\r\n"
        stream = request("POST", "/", headers=[self.KIND], body=body)
        with self._shared.connect() as connection:
            for start in range(0, len(stream), piece):
                connection.send(stream[start : start + piece])
            response = connection.response("POST")
        return response.status, json.loads(response.body)

    def test_upload(self) -> None:
        """Flask finds the file in the form as it was sent, in one piece or in many."""
        data = random.Random(2).randbytes(1_000_001)
        for piece in (10_000, 2_000_000):
            status, answer = self.upload("file", data, piece)
            self.assertIn(answer.pop("worker"), ("1", "2"))
            expected = {
                "name": "a.bin",
                "size": 1_000_001,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            self.assertEqual((status, answer), (200, expected))

    def test_no_file(self) -> None:
        """A form without the file is refused, and told why."""
        status, answer = self.upload("other", b"abc", 1000)
        self.assertEqual((status, "error" in answer), (400, True))

    def test_page(self) -> None:
        """The form is served."""
        self.assertIn(b'name="file"', self._shared.get("/").body)
