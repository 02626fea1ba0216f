"""Each example is started by the command that its docstring gives, and does what it says."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, ClassVar

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import (
    START,
    ClusterTestCase,
    Server,
    ServerTestCase,
    free_port,
)
from tests.integration.processes import until
from tests.integration.proxies import ABSENT, Proxy
from tests.integration.rawhttp import Connection, request
from txsticky.cli.options import Options

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def command(folder: str) -> str:
    """What follows `twist txsticky` in the docstring of the example's server."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / folder / "server.py").read_text()))
    found = re.search(r"^ +twist txsticky (.+)$", docstring or "", re.MULTILINE)
    if found is None:
        raise AssertionError(f"examples/{folder}/server.py does not say how to start it")
    return found[1]


class Example(Server):
    """An example with two workers, its folder on the path: as good as to be in it."""

    def __init__(self, folder: str, probe: str) -> None:
        port = free_port()
        *options, app = shlex.split(command(folder))
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
        """The README names every example, with the command of its docstring."""
        readme = " ".join((EXAMPLES / "README.rst").read_text().split())
        folders = [path.name for path in EXAMPLES.iterdir() if path.is_dir()]
        self.assertTrue(folders)
        for folder in folders:
            self.assertIn(f"``{folder}``", readme)
            if not (EXAMPLES / folder / "server.py").exists():
                continue
            self.assertIn(f"``{folder}`` ``twist txsticky {command(folder)}``", readme)


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
        """A visitor comes in; returns the connection, and the worker that says so."""
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


class JobsFastapiTests(ServerTestCase):
    """examples/jobs_fastapi."""

    def server(self) -> Server:
        return Example("jobs_fastapi", probe="/")

    def test_jobs(self) -> None:
        """A client that asks for a job, on its own connection, asks the worker that runs it."""
        found = set()
        for _ in range(8):
            connection = self._shared.connect()  # it stays, so that the next goes elsewhere
            self.addCleanup(connection.close)
            begun = connection.ask(request("POST", "/jobs"), "POST")
            self.assertEqual(begun.status, 201)
            job = json.loads(begun.body)
            told = self._shared.get(f"/jobs/{job['job']}")
            self.assertEqual((told.status, json.loads(told.body)["worker"]), (200, job["worker"]))
            found.add(job["worker"])
        self.assertEqual(found, {"1", "2"})

    def test_unknown(self) -> None:
        """A job that no worker has is not found."""
        self.assertEqual(self._shared.get("/jobs/abc").status, 404)


class VisitsDjangoTests(ServerTestCase):
    """examples/visits_django."""

    def server(self) -> Server:
        return Example("visits_django", probe="/")

    def test_visits(self) -> None:
        """Each visitor's visits are counted by one worker, and by no other."""
        for _ in range(4):
            first = self._shared.get("/")
            told = json.loads(first.body)
            cookie = dict(first.headers)["set-cookie"].partition(";")[0]
            for visit in range(2, 6):
                answer = self._shared.get("/", ("Cookie", cookie))
                self.assertEqual(json.loads(answer.body), {**told, "visits": visit})


class ChatSocketioTests(ServerTestCase):
    """examples/chat_socketio."""

    def server(self) -> Server:
        return Example("chat_socketio", probe="/socket.io/?EIO=4&transport=polling")

    def test_client(self) -> None:
        """Clients of both transports and on both workers hear what one of them says."""
        client = EXAMPLES / "chat_socketio" / "client.py"

        def talk() -> list[tuple[str, ...]]:
            done = subprocess.run(
                [sys.executable, str(client), f"http://127.0.0.1:{self._shared.port}", "4"],
                capture_output=True,
                text=True,
                timeout=START,
                check=True,
            )
            line = r"^client \d \((\w+)\): worker (\d) heard 'hello' from (\d)$"
            return re.findall(line, done.stdout, re.MULTILINE)

        until(
            lambda: {worker for _, worker, _ in talk()} == {"1", "2"},
            START,
            "four clients meet both workers",
        )
        found = talk()
        self.assertEqual([way for way, _, _ in found], ["polling", "websocket"] * 2)
        self.assertEqual(len({speaker for _, _, speaker in found}), 1)


class ChatLinesTests(ServerTestCase):
    """examples/chat_lines."""

    def server(self) -> Server:
        return Example("chat_lines", probe="")

    def enter(self, address: str) -> tuple[socket.socket, IO[bytes], bytes]:
        """A client comes in from that address; returns the connection and the worker."""
        talker = socket.create_connection(
            ("127.0.0.1", self._shared.port), START, source_address=(address, 0)
        )
        self.addCleanup(talker.close)
        lines = talker.makefile("rb")
        self.addCleanup(lines.close)
        greeting = lines.readline()
        self.assertRegex(greeting, rb"^You are on worker [12]\.\n$")
        return talker, lines, greeting[-3:-2]

    def test_chat(self) -> None:
        """People at different addresses are on different workers, and hear each other."""
        numbers = iter(range(2, 200))
        people: dict[bytes, tuple[socket.socket, IO[bytes]]] = {}
        while len(people) < 2:
            talker, lines, worker = self.enter(f"127.0.0.{next(numbers)}")
            people.setdefault(worker, (talker, lines))
        people[b"1"][0].sendall(b"hello\r\n")
        for _, lines in people.values():
            self.assertEqual(lines.readline(), b"worker 1: hello\n")

    def test_address(self) -> None:
        """All clients at one address are on one worker."""
        self.assertEqual(len({self.enter("127.0.0.2")[2] for _ in range(5)}), 1)


def proxy(file: str, port: int) -> Proxy:
    """A proxy with the configuration of an example, on a free port, in front of that port."""
    name = file.partition("/")[0]
    if name in ABSENT:
        raise SkipTest(ABSENT[name])
    text = (EXAMPLES / file).read_text()
    text = re.sub(r"(bind :|listen )8000", r"\g<1>{port}", text)
    text = re.sub(r"(server )(\w+ )?[\d.]+:8080", rf"\g<1>\g<2>127.0.0.1:{port}", text)
    if name == "nginx":  # its files, where the user of the tests may write
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {{folder}}/{kind};\n" for kind in kinds)
        text = text.replace("http {\n", f"http {{\naccess_log off;\n{paths}")
        text = "user {user};\npid {folder}/nginx.pid;\n" + text
    return Proxy(name, text)


class ProxyTests(ClusterTestCase):
    """examples/haproxy and examples/nginx: the configurations run as they are written."""

    options = ("--forwarded-allow-ips", "127.0.0.1")

    def one(self, file: str) -> None:
        """Requests with the ids of two workers, on one connection, reach their workers.

        What a client says of its scheme does not reach the application.
        """
        forged = [("X-Forwarded-Proto", "https")]
        with proxy(file, self.cluster.port) as front, Connection(front.port) as connection:
            for slot in (1, 2, 1, 2):
                target = f"/?sid={self.cluster.tag(slot)}"
                answer = connection.ask(request("GET", target, headers=forged))
                told = json.loads(answer.body)
                self.assertEqual(int(told["worker"]), slot)
                headers = {name.lower(): value for name, value in told["headers"]}
                self.assertEqual(headers["x-forwarded-for"], "127.0.0.1")
                self.assertNotEqual(headers.get("x-forwarded-proto"), "https")

    def test_haproxy(self) -> None:
        """HAProxy by HTTP."""
        self.one("haproxy/haproxy.cfg")

    def test_nginx(self) -> None:
        """nginx."""
        self.one("nginx/nginx.conf")

    def test_commands(self) -> None:
        """The commands that the configurations give are ones that the program accepts."""
        for file in ("haproxy/haproxy.cfg", "haproxy/tcp.cfg", "nginx/nginx.conf"):
            text = (EXAMPLES / file).read_text()
            (words,) = re.findall(r"^# +twist txsticky (.+)$", text, re.MULTILINE)
            Options().parseOptions(shlex.split(words))


class TcpProxyTests(ClusterTestCase):
    """examples/haproxy/tcp.cfg."""

    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.1")
    probe = ""

    def test_tcp(self) -> None:
        """The client's address is the one that the PROXY header tells."""
        with (
            proxy("haproxy/tcp.cfg", self.cluster.port) as front,
            socket.create_connection(
                ("127.0.0.1", front.port), START, source_address=("127.0.0.9", 0)
            ) as client,
        ):
            client.sendall(request("GET", "/", headers=[("Connection", "close")]))
            with client.makefile("rb") as stream:
                self.assertIn(b"127.0.0.9", stream.read())


class SystemdTests(SynchronousTestCase):
    """examples/systemd."""

    FOLDER = EXAMPLES / "systemd"

    def start(self) -> list[str]:
        """The command that the unit starts."""
        unit = (self.FOLDER / "txsticky.service").read_text()
        (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
        return shlex.split(command)

    def test_units(self) -> None:
        """systemd accepts both units."""
        if not shutil.which("systemd-analyze"):
            raise SkipTest("systemd-analyze is not installed")
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for file in self.FOLDER.iterdir():
            text = file.read_text().replace(self.start()[0], sys.executable)
            (folder / file.name).write_text(text)
        units = [str(folder / f"txsticky.{kind}") for kind in ("service", "socket")]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_activated(self) -> None:
        """The unit's command serves on the socket that systemd opened."""
        activate = shutil.which("systemd-socket-activate")
        if not activate:
            raise SkipTest("systemd-socket-activate is not installed")
        # Not in trial's folder: the path of a UNIX socket has at most 107 bytes.
        control = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "control")
        options = [word.replace("/run/txsticky/control", control) for word in self.start()[1:-1]]
        server = Activated(activate, options, free_port())
        with server:
            self.assertIn("worker", json.loads(server.get("/").body))


class Activated(Server):
    """A cluster that is started with its socket open, as by systemd."""

    def __init__(self, activate: str, options: list[str], port: int) -> None:
        words = [
            activate,
            "--fdname=http",
            "-l",
            f"127.0.0.1:{port}",
            sys.executable,
            "-m",
            "txsticky",
            *options,
        ]
        program = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        super().__init__(["-c", program, *words, "-w", "2", "tests.integration.apps:echo"], port)
