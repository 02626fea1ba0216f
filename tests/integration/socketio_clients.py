"""Clients of Socket.IO, for the tests: Python's, and the JavaScript one in a process of node."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
import socketio

from tests.integration.cluster import START, Cluster
from tests.integration.processes import SLACK, until

HANDSHAKE = "/socket.io/?EIO=4&transport=polling"
#: Polling only, WebSocket only, and polling with an upgrade.
TRANSPORTS = (["polling"], ["websocket"], ["polling", "websocket"])
MODULES = Path(
    os.environ.get("NODE_PATH") or Path.home() / ".cache" / "txsticky-peers" / "node_modules"
)
_SCRIPT = Path(__file__).with_name("socketio_client.js")


def missing() -> str:
    """Why there is no JavaScript client; empty if there is one."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (MODULES / "socket.io-client").exists():
        return f"socket.io-client is not in {MODULES} (.ci/setup puts it there)"
    return ""


class Workers(Cluster):
    """A cluster that serves one of the applications of `socketio_app`."""

    def __init__(self, app: str, *options: str, workers: int = 3, **environment: str) -> None:
        target = f"tests.integration.socketio_app:{app}"
        super().__init__(
            target,
            "--factory",
            *options,
            workers=workers,
            probe=HANDSHAKE,
            environment=environment,
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and returns when all workers are ready."""
        super().start()
        until(lambda: self.log().count(" is ready.") == self.size, START, "all are ready")


class Client:
    """Python's client, and what it has heard. An asynchronous context manager."""

    def __init__(self, url: str, transports: list[str], **options: Any) -> None:
        self._http = aiohttp.ClientSession()
        self.io = socketio.AsyncClient(
            **{"reconnection": False, "http_session": self._http, **options}
        )
        self.url, self.transports = url, transports
        #: Which worker greeted it under which id, each time.
        self.hellos: list[dict[str, str]] = []
        self.said: list[Any] = []
        self.errors: list[Any] = []
        self.left: list[str] = []
        self.io.on("hello", self.hellos.append)
        self.io.on("said", self.said.append)
        self.io.on("connect_error", self.errors.append)
        self.io.on("disconnect", self.left.append)
        self.io.on("asked", lambda what: (what, "answer"))

    @property
    def sid(self) -> str:
        """The id that the server knows it by."""
        return self.hellos[-1]["sid"]

    @property
    def worker(self) -> str:
        """The worker that it is on."""
        return self.hellos[-1]["worker"]

    async def connect(self) -> None:
        """Connects, and waits to be greeted."""
        count = len(self.hellos)
        await self.io.connect(self.url, transports=self.transports, wait_timeout=60)
        await eventually(lambda: len(self.hellos) > count)

    async def call(self, event: str, *arguments: Any) -> Any:
        """Emits, and waits for the answer."""
        data = arguments if len(arguments) > 1 else arguments[0]
        return await self.io.call(event, data, timeout=60)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnects.  The client's own way would wait for the poll under way, half a minute."""
        engine = self.io.eio
        tasks = [task for task in (engine.write_loop_task, engine.read_loop_task) if task]
        await engine.disconnect(abort=True)
        if tasks:
            await asyncio.wait(tasks[:1], timeout=5)
        await self._http.close()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    async def echo(self, data: Any) -> None:
        """What is sent comes back from the worker that greeted."""
        answer = await self.call("echo", data)
        if answer != {"worker": self.worker, "data": data}:
            raise AssertionError(f"worker {self.worker}: {str(answer)[:200]}")


async def eventually(fact: Any, seconds: float = 20.0, log: Any = str) -> None:
    """Waits as :func:`until` does.

    :param log: returns what the cluster has said, for the message.
    """
    end = time.monotonic() + SLACK * seconds
    while not fact():
        if time.monotonic() > end:
            raise AssertionError(f"not so after {SLACK * seconds:g} s: {fact}\n{log()}")
        await asyncio.sleep(0.02)


async def three_turns(url: str, transports: list[str]) -> set[str]:
    """Connects three times and sends text and 1 MB of bytes to and fro; returns the workers."""
    workers = set()
    for _ in range(3):
        async with Client(url, transports) as client:
            await client.echo("text")
            await client.echo(random.randbytes(1_000_000))
            if client.io.transport() != transports[-1] or client.errors:
                raise AssertionError(f"{client.io.transport()} of {transports}: {client.errors}")
            workers.add(client.worker)
    return workers


class Node:
    """The JavaScript client in a process of its own."""

    def __init__(self, url: str, what: str, transports: list[str], clients: int) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["node", str(_SCRIPT), url, what, ",".join(transports), str(clients)],
            env={**os.environ, "NODE_PATH": str(MODULES)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def refused(self) -> bool:
        """Whether a client has been refused so far."""
        self._errors.seek(0)
        return "refused" in self._errors.read()

    def end(self, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Ends its input and waits for it; returns what each client says."""
        try:
            said, _ = self._process.communicate("", timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        if self._process.returncode:
            self._errors.seek(0)
            raise AssertionError(f"node: {self._process.returncode} {self._errors.read()}")
        self._errors.close()
        return [json.loads(line) for line in said.splitlines()]


class Polls:
    """Many sessions by long polling over one pool of kept-alive connections, as a proxy has."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url + "/socket.io/?EIO=4&transport=polling"
        self._http = http
        self.refused: list[str] = []

    async def _get(self, sid: str) -> str:
        async with self._http.get(f"{self._url}&sid={sid}" if sid else self._url) as response:
            text = await response.text()
            if response.status != 200:
                self.refused.append(f"{response.status} {text}")
            return text

    async def _post(self, sid: str, packet: str) -> None:
        async with self._http.post(f"{self._url}&sid={sid}", data=packet) as response:
            if response.status != 200:
                self.refused.append(f"{response.status} {await response.text()}")

    async def session(self, number: int, turns: int) -> str:
        """One session: returns its worker."""
        opened = await self._get("")
        sid: str = json.loads(opened[1:])["sid"]
        await self._post(sid, "40")
        for turn in range(turns):
            await self._post(sid, f'42{turn}["echo","{number}"]')
            answer = ""
            while f"43{turn}[" not in answer:
                answer = await self._get(sid)
                if self.refused:
                    raise AssertionError(self.refused[-1])
                for packet in answer.split("\x1e"):
                    if packet == "2":
                        await self._post(sid, "3")
            if f'"data":"{number}"' not in answer:
                raise AssertionError(answer)
        return sid.split(".")[1]
