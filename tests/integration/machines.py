"""Several machines on one: clusters at loopback addresses of their own, behind a real balancer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
from attrs import define, field

from tests.integration.cluster import Server, free_port
from tests.integration.processes import SLACK
from tests.integration.proxies import Proxy
from txsticky.core.machines import haproxy, nginx
from txsticky.core.machines.settings import BalancerSettings, Machine

#: Seconds for which each machine serves on when it is told to stop: until it is told again.
LAME_DUCK = 600
BIND = "127.0.0.9:8000"
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Box(Server):
    """
    A machine with a cluster of Socket.IO.

    :ivar place: its address and port.
    """

    def __init__(self, name: str, host: str, port: int, status: int, secret: Path, *more: str):
        self.name, self.place, self._readyz = (
            name,
            f"{host}:{port}",
            f"http://{host}:{status}/readyz",
        )
        arguments = ["-m", "txsticky", "-l", self.place, "-w", "2", "--graceful-timeout", "3"]
        arguments += ["--machine", name, "--secret-file", str(secret), "--factory", *more]
        arguments += ["--status", f"{host}:{status}", "--lame-duck", str(LAME_DUCK)]
        super().__init__([*arguments, "tests.integration.socketio_app:plain"], port)

    def readiness(self) -> int:
        """The status of /readyz; 0 if there is no answer."""
        try:
            return int(urllib.request.urlopen(self._readyz, timeout=5).status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def answers(self, target: str = "/") -> bool:
        return self.readiness() == 200

    def crash(self) -> None:
        """Kill all processes of the machine."""
        for process in self.living():
            os.kill(process.pid, signal.SIGKILL)
        self.wait()

    def again(self) -> None:
        """Start the cluster once more; it need not serve yet."""
        super().stop()
        self.spawn()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGINT)
        super().stop()


def boxes(folder: Path, names: str, *options: str) -> list[Box]:
    """Machines that share a secret, and use the same ports at different addresses."""
    secret = folder / "secret"
    secret.write_bytes(os.urandom(32).hex().encode())
    secret.chmod(0o600)
    port, status = free_port(), free_port()
    return [
        Box(name, f"127.0.1.{number}", port, status, secret, *options)
        for number, name in enumerate(names, 1)
    ]


def front(balancer: str, machines: list[Box], **settings: Any) -> Proxy:
    """A balancer with the configuration that `txsticky balancer` prints."""
    told = BalancerSettings(
        machines=tuple(Machine.read(f"{box.name}={box.place}") for box in machines),
        bind=BIND,
        status_port=int(machines[0]._readyz.split(":")[2].partition("/")[0]),
        **settings,
    )
    configure = {"haproxy": haproxy.configure, "nginx": nginx.configure}[balancer]
    text = configure(told).replace(BIND, "127.0.0.1:{port}")
    return Proxy(balancer, whole(text) if balancer == "nginx" else text)


def whole(text: str) -> str:
    """What nginx needs around what stands in its block http, to run where the tests may write."""
    paths = "".join(f"{kind}_temp_path {{folder}}/{kind};\n" for kind in _TEMPORARY)
    before = "user {user};\npid {folder}/nginx.pid;\nevents {}\nhttp {\naccess_log off;\n"
    return f"{before}{paths}{text}}}\n"


@define
class Failure:
    """What went wrong in a session of a machine; the machine is empty if there was none yet."""

    machine: str
    what: str


@define
class Visitor:
    """
    A client that begins one session after the other, by long polling.

    :param url: the balancer's.
    :param keeps: whether it keeps cookies.
    :ivar met: the machine of each of its sessions.
    :ivar done: sessions that were whole.
    """

    url: str
    keeps: bool
    met: list[str] = field(factory=list)
    failures: list[Failure] = field(factory=list)
    done: int = 0
    _machine: str = ""

    async def go_on(self, over: asyncio.Event) -> None:
        """Visit until it is over."""
        jar = aiohttp.CookieJar(unsafe=True) if self.keeps else aiohttp.DummyCookieJar()
        time_out = aiohttp.ClientTimeout(total=10 * SLACK)
        async with aiohttp.ClientSession(cookie_jar=jar, timeout=time_out) as http:
            while not over.is_set():
                self._machine = ""
                try:
                    await self._session(http)
                    self.done += 1
                except (aiohttp.ClientError, OSError, AssertionError, TimeoutError) as error:
                    self.failures.append(Failure(self._machine, repr(error)))
                    await asyncio.sleep(0.05)

    async def _session(self, http: aiohttp.ClientSession) -> None:
        url = f"{self.url}/socket.io/?EIO=4&transport=polling"
        sid = json.loads((await self._ask(http, "GET", url))[1:])["sid"]
        self._machine = sid.partition(".")[0]
        self.met.append(self._machine)
        url += f"&sid={sid}"
        await self._ask(http, "POST", url, "40")
        hello = await self._heard(http, url, '42["hello"')
        worker = json.loads(hello[2:])[1]["worker"]
        for turn in range(4):
            await self._ask(http, "POST", url, f'42{turn}["echo","{turn}"]')
            answer = await self._heard(http, url, f"43{turn}[")
            assert f'{{"worker":"{worker}","data":"{turn}"}}' in answer, answer
            await asyncio.sleep(0.05)
        await self._ask(http, "POST", url, "1")

    async def _heard(self, http: aiohttp.ClientSession, url: str, start: str) -> str:
        """Poll until a packet begins so."""
        while True:
            for packet in (await self._ask(http, "GET", url)).split("\x1e"):
                if packet.startswith(start):
                    return packet
                if packet == "2":
                    await self._ask(http, "POST", url, "3")

    async def _ask(self, http: aiohttp.ClientSession, method: str, url: str, body: str = "") -> str:
        async with http.request(method, url, data=body or None) as response:
            text = await response.text()
            assert response.status == 200, f"{method} {response.status} {text[:60]}"
            return text


@define
class Visitors:
    """
    Many clients, half of which keep cookies.

    :ivar all: the clients.
    """

    url: str
    count: int = 8
    all: list[Visitor] = field(factory=list)
    _over: asyncio.Event = field(factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(factory=list)

    async def __aenter__(self) -> Visitors:
        self.all = [Visitor(self.url, number % 2 == 0) for number in range(self.count)]
        self._tasks = [asyncio.create_task(visitor.go_on(self._over)) for visitor in self.all]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def turn(self, sessions: int = 2) -> list[set[str]]:
        """Wait until each has begun so many sessions more; the machines of those, by client."""
        marks = [len(visitor.met) for visitor in self.all]
        end = time.monotonic() + 15 * SLACK
        while any(len(v.met) < mark + sessions for v, mark in zip(self.all, marks, strict=True)):
            assert time.monotonic() < end, f"clients are stuck: {self.all}"
            await asyncio.sleep(0.02)
        return [set(v.met[mark:]) for v, mark in zip(self.all, marks, strict=True)]

    async def meet(self, machine: str) -> None:
        """Wait until a session is on a machine."""
        end = time.monotonic() + 15 * SLACK
        while not set().union(*await self.turn(1)) >= {machine}:
            assert time.monotonic() < end, f"no client comes to {machine}"

    def failures(self) -> list[Failure]:
        """What went wrong since the last look."""
        found = [failure for visitor in self.all for failure in visitor.failures]
        for visitor in self.all:
            visitor.failures.clear()
        return found
