"""The works: what is done to the contenders, and what is counted."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable

from attrs import frozen

from . import clients, contenders, polling
from .contenders import Running, Starter
from .measure import Figures, Peak, descriptors, memory

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@frozen
class Work:
    """
    One work.

    :ivar name: for the command line and the files.
    :ivar title: for the reader.
    :ivar contenders: txsticky first.
    :ivar measure: makes, for a running contender, the function that measures it once.
    :ivar main: the figure that the plot shows, and whether more of it is better.
    :ivar goal: what txsticky is to reach, as a sentence.
    :ivar short: whether it belongs to the short version.
    :ivar rounds: of the short version.
    :ivar fresh: whether it needs processes that have done nothing before.
    """

    name: str
    title: str
    contenders: tuple[Starter, ...]
    measure: Callable[[Running], Callable[[], Figures]]
    main: tuple[str, bool]
    goal: str = ""
    short: bool = True
    rounds: int = 5
    fresh: bool = False


def _starter(name: str, start: Starter, *arguments: object, **named: object) -> Starter:
    """A starter whose contender goes by another name."""

    def started() -> Running:
        running = start(*arguments, **named)
        running.name = name
        return running

    return started


def per_request(server: Running, count: float, before: tuple[float, float]) -> dict[str, float]:
    """The CPU for each of `count` requests since `before`, in microseconds."""
    front, workers = (now - then for now, then in zip(server.cpu(), before, strict=True))
    figures = {"workers CPU us": workers / count, "total CPU us": (front + workers) / count}
    if server.front:
        figures["front CPU us"] = front / count
    return figures


def _hand_off(count: int) -> Callable[[Running], Callable[[], Figures]]:
    def prepare(server: Running) -> Callable[[], Figures]:
        request = clients.sessions(server)[0].request()
        return lambda: {"front CPU us": clients.burst(server, request, count)}

    return prepare


def _http(mode: str, connections: int = 16) -> Callable[[Running], Callable[[], Figures]]:
    def prepare(server: Running, seconds: float = 0.7) -> Callable[[], Figures]:
        tickets = clients.sessions(server)

        def measure() -> Figures:
            before = server.cpu()
            counted = clients.load(server.port, tickets, mode, seconds, connections)
            return {
                "requests/s": counted.requests / counted.seconds,
                **per_request(server, counted.requests, before),
                "client CPU %": counted.cpu / counted.seconds / 1e4,
            }

        measure()
        return measure

    return prepare


def _plain_http(server: Running, mode: str = "keep", sources: int = 0) -> Callable[[], Figures]:
    """
    Requests without a session, on connections that are kept or, with `close`, on one each.

    :param sources: the addresses that the connections come from; 0 is one.
    """
    tickets = [clients.Ticket("/hello")]

    def measure() -> Figures:
        before = server.cpu()
        counted = clients.load(server.port, tickets, mode, 0.7, 16, sources)
        return {
            "requests/s": counted.requests / counted.seconds,
            **per_request(server, counted.requests, before),
        }

    measure()
    return measure


def _short_http(server: Running) -> Callable[[], Figures]:
    return _plain_http(server, "close")


def _by_address(server: Running) -> Callable[[], Figures]:
    return _plain_http(server, "close", 64)


def _from_addresses(
    ask: Callable[[socket.socket], bytes],
) -> Callable[[Running], Callable[[], Figures]]:
    """Connections from 64 addresses, one after the other."""

    def prepare(server: Running) -> Callable[[], Figures]:
        def measure(seconds: float = 1.0) -> Figures:
            before = server.cpu()
            count = clients.by_address(server, seconds, ask)
            return {"connections/s": count / seconds, **per_request(server, count, before)}

        measure(0.3)
        return measure

    return prepare


def _upload(size: int) -> Callable[[Running], Callable[[], Figures]]:
    def prepare(server: Running) -> Callable[[], Figures]:
        times = max(1, min(200, 16 * MIB // size))

        def measure() -> Figures:
            before, peak = server.cpu(), Peak(server.front)
            seconds = sum(clients.upload(server.port, size) for _ in range(times))
            figures = {"MiB/s": times * size / MIB / seconds}
            used = server.cpu()
            gib = times * size / GIB
            figures["workers CPU s/GiB"] = (used[1] - before[1]) / 1e6 / gib
            if server.front:
                figures["front CPU s/GiB"] = (used[0] - before[0]) / 1e6 / gib
                figures["front growth MiB"] = peak.growth() / MIB
            return figures

        return measure

    return prepare


def _slow(server: Running) -> Callable[[], Figures]:
    count = 8

    def measure() -> Figures:
        peak, workers = Peak(server.front), Peak(server.workers)
        readers = clients.slow_readers(server.port, count)
        time.sleep(1.5)
        figures = {"workers growth MiB": workers.growth() / MIB}
        if server.front:
            figures["front growth MiB"] = peak.growth() / MIB
        for reader in readers:
            clients.hard_close(reader)
        time.sleep(0.3)
        return figures

    return measure


def _connects(server: Running) -> Callable[[], Figures]:
    def measure() -> Figures:
        before, start, count = server.cpu(), time.monotonic(), 0
        while time.monotonic() - start < 0.8:
            clients.hard_close(clients.websocket(server.port))
            count += 1
        return {
            "connects/s": count / (time.monotonic() - start),
            **per_request(server, count, before),
        }

    measure()
    return measure


def _echo(server: Running) -> Callable[[], Figures]:
    def measure() -> Figures:
        sockets = [clients.websocket(server.port) for _ in range(16)]
        before = server.cpu()
        count = clients.echoes(sockets, 0.8)
        figures = {"messages/s": count / 0.8, **per_request(server, count, before)}
        for sock in sockets:
            clients.hard_close(sock)
        return figures

    return measure


def _broadcast(count: int) -> Callable[[Running], Callable[[], Figures]]:
    def prepare(server: Running) -> Callable[[], Figures]:
        def measure(seconds: float = 1.0) -> Figures:
            sockets = [clients.websocket(server.port) for _ in range(count)]
            before, start = server.cpu(), time.monotonic()
            heard = clients.broadcasts(sockets, seconds)
            figures = {
                "heard/s": heard / (time.monotonic() - start),
                **per_request(server, heard, before),
            }
            for sock in sockets:
                clients.hard_close(sock)
            time.sleep(0.3)
            return figures

        return measure

    return prepare


def _idle(count: int) -> Callable[[Running], Callable[[], Figures]]:
    def prepare(server: Running) -> Callable[[], Figures]:
        def measure() -> Figures:
            sides = {"front": server.front, "workers": server.workers}
            before = {side: (memory(pids), descriptors(pids)) for side, pids in sides.items()}
            sockets = [clients.websocket(server.port) for _ in range(count)]
            time.sleep(0.5)
            figures = {}
            for side, pids in sides.items():
                if pids:
                    held, open_files = before[side]
                    figures[f"{side} KiB each"] = (memory(pids) - held) / KIB / count
                    figures[f"{side} descriptors each"] = (descriptors(pids) - open_files) / count
            for sock in sockets:
                clients.hard_close(sock)
            return figures

        return measure

    return prepare


def _polling(server: Running, seconds: float = 1.0) -> Callable[[], Figures]:
    def measure() -> Figures:
        before = server.cpu()
        own = time.process_time()
        polls, opened, unknown = polling.poll(server.port, 24, seconds)
        return {
            "polls/s": polls / seconds,
            "sessions": opened,
            "unknown": unknown,
            **per_request(server, polls, before),
            "client CPU %": (time.process_time() - own) / seconds * 100,
        }

    return measure


_ENTRANCES = _starter(
    "txsticky, --accept workers", contenders.txsticky, options=("--accept", "workers")
)
_ROUTED_BY = {
    "the kernel": ("--sticky", "ip", "--accept", "workers"),
    "the workers": ("--sticky", "ip", "--accept", "workers", "--forwarded-allow-ips", "192.0.2.1"),
    "the primary": ("--sticky", "ip"),
}


def _routed(
    start: Starter, *arguments: object, without: str = "", **named: object
) -> tuple[Starter, ...]:
    """A contender by the client's address, in each way of `_ROUTED_BY` but one."""
    return tuple(
        _starter(f"txsticky, routed by {name}", start, *arguments, **named, options=options)
        for name, options in _ROUTED_BY.items()
        if name != without
    )


_FRONTS = (contenders.haproxy, contenders.nginx, contenders.socketio_sticky)
_SITE = (contenders.txsticky, *_FRONTS)
_WEBSOCKET = (
    functools.partial(contenders.txsticky, "websocket"),
    functools.partial(contenders.haproxy, "websocket"),
    functools.partial(contenders.nginx, "websocket"),
    contenders.socketio_sticky,
    functools.partial(contenders.reuseport, "websocket"),
)
_GATE = (
    _starter("with the gate", contenders.txsticky, workers=1),
    _starter("without the gate", contenders.txsticky, attribute="ungated", workers=1,
             options=("--interface", "protocol")),
    _starter("Twisted alone", contenders.direct),
)  # fmt: skip
_COOKIE = (
    *(
        _starter(name, contenders.txsticky, workers=1, options=("--sticky", keys))
        for name, keys in (("with the cookie", "auto"), ("without it", "sid"))
    ),
    _starter("Twisted alone", contenders.direct),
)
_FOLLOW = tuple(
    _starter(
        name, contenders.txsticky, "websocket", workers=1, options=("--websockets", websockets)
    )
    for name, websockets in (("they may move", "move"), ("they stay", "close"))
)
_BROADCAST = (
    functools.partial(contenders.txsticky, "broadcast", "app"),
    functools.partial(contenders.with_redis, "broadcast"),
    functools.partial(contenders.single, "broadcast"),
)
_UPLOADS = (*_SITE, contenders.direct)


def upload_work(size: int, short: bool) -> Work:
    """Uploads of a size."""
    label = next(
        f"{size // unit} {name}"
        for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))
        if size >= unit
    )
    return Work(
        f"upload-{label.replace(' ', '').lower()}",
        f"Uploads of {label}",
        _UPLOADS,
        _upload(size),
        ("MiB/s", True),
        "within 5 % of direct; no CPU and no memory in front",
        short,
        rounds=3,
    )


WORKS = (
    Work(
        "hand-off",
        "One hand-off: CPU of the front",
        (contenders.txsticky, *_FRONTS, contenders.naive, contenders.in_c),
        _hand_off(400),
        ("front CPU us", False),
        "at most 30 us",
    ),
    Work(
        "short",
        "Short connections, each with a session id",
        (contenders.txsticky, _ENTRANCES, *_FRONTS, contenders.reuseport),
        _http("close"),
        ("requests/s", True),
        "ahead of nginx",
    ),
    Work(
        "entrances",
        "Short connections without a session: who accepts",
        (contenders.txsticky, _ENTRANCES, contenders.reuseport),
        _short_http,
        ("total CPU us", False),
        "no CPU in front with --accept workers, and hardly more in all than plain Twisted",
    ),
    Work(
        "by-address",
        "Short connections from 64 addresses, each to its worker",
        (
            *_routed(contenders.txsticky),
            _starter("nginx, by address", contenders.nginx, by_address=True),
            contenders.reuseport,
        ),
        _by_address,
        ("total CPU us", False),
        "no CPU in front with the kernel's routes, and hardly more in all than plain Twisted",
    ),
    Work(
        "by-address-8",
        "The same with eight workers",
        _routed(contenders.txsticky, workers=8),
        _by_address,
        ("total CPU us", False),
        "no CPU in front with the kernel's routes",
        fresh=True,
    ),
    Work(
        "greetings",
        "A protocol in which the server speaks first, from 64 addresses",
        (
            # The workers alone would wait for the header by which a proxy names the address.
            *_routed(contenders.txsticky, "greeting", without="the workers"),
            functools.partial(contenders.reuseport, "greeting"),
        ),
        _from_addresses(clients.greeting),
        ("total CPU us", False),
        "no CPU in front with the kernel's routes, and hardly more in all than plain Twisted",
        fresh=True,
    ),
    Work(
        "tls-by-address",
        "TLS, a handshake and a request from each of 64 addresses",
        _routed(contenders.secure),
        _from_addresses(clients.over_tls),
        ("total CPU us", False),
        "no CPU in front with the kernel's routes",
        fresh=True,
    ),
    Work(
        "keep-alive",
        "Keep-alive, a session on each connection",
        (contenders.txsticky, _ENTRANCES, *_FRONTS, contenders.reuseport),
        _http("keep"),
        ("requests/s", True),
        "1.5 x HAProxy and nginx, 5 x @socket.io/sticky; no CPU in front",
    ),
    Work(
        "moves",
        "Keep-alive, every request for another session",
        _SITE,
        _http("turns"),
        ("requests/s", True),
        "1.5 x @socket.io/sticky",
    ),
    Work(
        "gate",
        "What the gate costs, keep-alive, one worker",
        _GATE,
        _plain_http,
        ("total CPU us", False),
        "within 10 % of the same protocol without it",
    ),
    Work(
        "cookie",
        "Keep-alive, clients that keep no cookie: what inserting one costs",
        _COOKIE,
        _plain_http,
        ("workers CPU us", False),
        "with it at most 2 % of Twisted's own hello more than without it",
    ),
    Work(
        "asgi",
        "FastAPI says hello, keep-alive",
        (
            functools.partial(contenders.txsticky, "hello", "app"),
            contenders.uvicorn,
            functools.partial(contenders.granian, "asgi", "hello"),
            functools.partial(contenders.nginx, "hello"),
            functools.partial(contenders.haproxy, "hello"),
        ),
        _plain_http,
        ("requests/s", True),
        "0.9 x granian's CPU, within 5 % of uvicorn --workers 2, 1.3 x nginx before two",
    ),
    Work(
        "wsgi",
        "Flask says hello, keep-alive, one process with 16 clients",
        (
            functools.partial(contenders.txsticky, "flasky", "app", 1),
            functools.partial(contenders.gunicorn, "flasky"),
            functools.partial(contenders.granian, "wsgi", "flasky", 1),
        ),
        _plain_http,
        ("total CPU us", False),
        "0.4 x the CPU of gunicorn, and no more than granian's",
    ),
    Work(
        "polling",
        "Socket.IO sessions by polling",
        (
            functools.partial(contenders.txsticky, "chat", "app"),
            functools.partial(contenders.haproxy, "chat"),
            functools.partial(contenders.nginx, "chat"),
            contenders.socketio_sticky,
        ),
        _polling,
        ("polls/s", True),
        "1.3 x the best; no session unknown",
    ),
    upload_work(KIB, False),
    upload_work(64 * KIB, False),
    upload_work(MIB, True),
    upload_work(64 * MIB, True),
    upload_work(GIB, False),
    Work(
        "slow-readers",
        "Eight clients that do not read 32 MiB: where the bytes pile up",
        (*_SITE, contenders.direct),
        _slow,
        ("front growth MiB", False),
        "no memory in front",
        rounds=3,
    ),
    Work(
        "websocket-connect",
        "WebSocket handshakes",
        _WEBSOCKET,
        _connects,
        ("connects/s", True),
        "the hand-off adds less than 5 %",
    ),
    Work("websocket-echo", "WebSocket echo, 16 clients", _WEBSOCKET, _echo, ("messages/s", True)),
    Work(
        "websocket-follow",
        "WebSocket echo, 16 clients, one worker: what it costs that they may move",
        _FOLLOW,
        _echo,
        ("workers CPU us", False),
        "at most 5 % of an echo",
    ),
    Work(
        "broadcast",
        "A word to 200 WebSockets",
        _BROADCAST,
        _broadcast(200),
        ("heard/s", True),
        rounds=3,
    ),
    Work(
        "broadcast-2000",
        "A word to 2,000 WebSockets",
        _BROADCAST,
        _broadcast(2000),
        ("heard/s", True),
        short=False,
        rounds=2,
    ),
    Work(
        "idle-500",
        "500 idle WebSockets: memory",
        _WEBSOCKET,
        _idle(500),
        ("workers KiB each", False),
        "nothing in front, workers within 5 % of plain Twisted",
        rounds=1,
        fresh=True,
    ),
    Work(
        "idle-5000",
        "5,000 idle WebSockets: memory",
        _WEBSOCKET,
        _idle(5000),
        ("workers KiB each", False),
        "nothing in front, workers within 5 % of plain Twisted",
        False,
        rounds=1,
        fresh=True,
    ),
)
