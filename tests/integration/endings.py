"""What the tests of endings share: each interface under a cluster and bare, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen

from tests.certificates import Pair, pair
from tests.integration.cluster import START, Cluster, Server, ServerTestCase, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request
from tests.integration.secure import NAME

APPS = "tests.integration.ending_apps"
#: Seconds in which what is to end has ended. What ends by a timeout only (`GRACEFUL`) has not.
SOON = 20.0
GRACEFUL = 300

#: What stands before and behind the data of a chunk, for data without line ends.
_CHUNK = re.compile(rb"(?:^|\r\n)[0-9a-f]+\r\n")
_DATE = re.compile(rb"(?<=\r\ndate: )[^\r]*", re.IGNORECASE)


@frozen
class Interface:
    """An interface, and what serves it.

    :ivar app: the application's name in `ending_apps`.
    :ivar options: of the command line.
    :ivar environment: for a cluster.
    :ivar uvicorn: the same, as options of uvicorn; None if it is Twisted's.
    """

    app: str
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    uvicorn: tuple[str, ...] | None = None


def asgi(http: str, loop: str, websockets: str) -> Interface:
    """An interface of uvicorn's with these engines."""
    engines = {"http": http, "loop": loop, "ws": websockets}
    return Interface(
        "asgi",
        (),
        tuple((f"UVICORN_{name.upper()}", engine) for name, engine in engines.items()),
        tuple(word for name, engine in engines.items() for word in (f"--{name}", engine)),
    )


INTERFACES = {
    "Web": Interface("web", ("--factory",)),
    "Wsgi": Interface("wsgi"),
    "Httptools": asgi("httptools", "uvloop", "websockets-sansio"),
    "H11": asgi("h11", "asyncio", "wsproto"),
}


class Papers:
    """A certificate in a folder of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="txsticky-tls-"))
        self.pair: Pair = pair(self.folder, NAME, "localhost")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(self.pair.certificate)

    def connect(self, port: int, options: Any) -> Connection:
        """A connection over TLS."""
        plain = Connection(port, **options).socket
        timeout = plain.gettimeout()
        try:
            secured = self.context.wrap_socket(
                plain, server_hostname=NAME, suppress_ragged_eofs=False
            )
        except BaseException:
            plain.close()
            raise
        connection = Connection.over(secured)
        secured.settimeout(timeout)
        return connection

    def remove(self) -> None:
        """Remove the folder: the tests are over."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Clustered(Cluster):
    """A cluster of two, with TLS or without."""

    def __init__(
        self,
        interface: Interface,
        papers: Papers | None,
        *options: str,
        workers: int = 2,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._papers = papers
        tls: tuple[str, ...] = ()
        if papers is not None:
            tls = ("--tls-cert", papers.pair.certificate, "--tls-key", papers.pair.key)
        super().__init__(
            f"{APPS}:{interface.app}",
            *("--graceful-timeout", str(GRACEFUL), "--sticky", "sid", *tls),
            *interface.options,
            *options,
            workers=workers,
            probe="/",
            environment={**dict(interface.environment), **(environment or {})},
        )

    def start(self) -> None:
        super().start()
        until(lambda: self.log().count(" is ready.") >= self.size, START, "all are ready")

    def connect(self, **options: Any) -> Connection:
        options.setdefault("timeout", SOON)
        if self._papers is None:
            return super().connect(**options)
        return self._papers.connect(self.port, options)

    def tags(self) -> dict[int, str]:
        while len(self._tags) < self.size:
            with self.connect() as connection:
                slot, tag = _worker(connection)
                self._tags[slot] = tag
        return dict(self._tags)

    def connect_by(self, slot: int, **options: Any) -> Connection:
        """Connect to this worker, which over TLS holds the connection of each request's worker.

        Those to other workers stay open until there is one, for the balancer counts them.
        """
        with contextlib.ExitStack() as others:
            for _ in range(100):
                connection = self.connect(**options)
                if _worker(connection)[0] == slot:
                    return connection
                others.enter_context(connection)
        raise AssertionError(f"worker {slot} gets no connection")


def _worker(connection: Connection) -> tuple[int, str]:
    """The worker that serves what nothing pins, and an id that leads to that worker."""
    told = json.loads(connection.ask(request("GET", "/worker")).body)
    return int(told["worker"]), told["told"]


class Alone(Server):
    """An application under its own server."""

    def __init__(
        self,
        interface: Interface,
        papers: Papers | None,
        environment: dict[str, str] | None = None,
    ) -> None:
        port = free_port()
        self._papers = papers
        pair = papers.pair if papers is not None else None
        if interface.uvicorn is None:
            arguments = ["-m", APPS, interface.app, str(port)]
            arguments += [pair.certificate, pair.key] if pair else []
        else:
            arguments = ["-m", "uvicorn", "--port", str(port), "--no-access-log"]
            arguments += [*interface.uvicorn, f"{APPS}:{interface.app}"]
            if pair:
                arguments += ["--ssl-certfile", pair.certificate, "--ssl-keyfile", pair.key]
        super().__init__(arguments, port, environment)

    def connect(self, **options: Any) -> Connection:
        options.setdefault("timeout", SOON)
        if self._papers is None:
            return super().connect(**options)
        return self._papers.connect(self.port, options)


@frozen
class Ending:
    """What came to the end of a connection, without the date, and how it ended.

    :ivar how: `closed`: cleanly, over TLS with its close; `cut`: over TLS without; `reset`; or
        `open`: not at all.
    """

    data: bytes
    how: str

    def normal(self, page: bool = True) -> Ending:
        """
        Return the same with its header lines in order, without the server's name and chunks' sizes.

        :param page: whether the content matters, and what the header says of it.
        """
        head, _, content = self.data.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        left_out = (b"Server:",) if page else (b"Server:", b"Content-", b"Transfer-")
        if b"Transfer-Encoding: chunked" in lines:
            content = _CHUNK.sub(b"", content)
        lines = sorted(line for line in lines if not line.startswith(left_out))
        return Ending(b"\r\n".join([status, *lines, b"", content if page else b""]), self.how)


def ending(connection: Connection) -> Ending:
    """Read to the end."""
    data = bytearray(connection.reader.buffered)
    how = "closed"
    try:
        while piece := connection.socket.recv(1 << 16):
            data += piece
    except TimeoutError:
        how = "open"
    except ssl.SSLEOFError:
        how = "cut"
    except ConnectionResetError:
        how = "reset"
    return Ending(_DATE.sub(b"then", bytes(data)), how)


def tcp_ends(connection: Connection) -> bool:
    """Whether TCP ends as well, though the client has not answered the close of TLS."""
    return socket.socket.recv(connection.socket, 1) == b""


class EndingCase(ServerTestCase):
    """Tests of one interface, with TLS or without, in one accept mode."""

    interface: ClassVar[Interface]
    tls: ClassVar[bool]
    accept: ClassVar[str]
    papers: ClassVar[Papers | None] = None
    _alone: ClassVar[Alone | None] = None

    def server(self) -> Clustered:
        cls = type(self)
        cls.papers = Papers() if self.tls else None
        return Clustered(self.interface, cls.papers, "--accept", self.accept)

    @property
    def alone(self) -> Alone:
        """The bare server, with TLS if the cluster has it."""
        cls = type(self)
        if cls._alone is None:
            cls._alone = Alone(self.interface, cls.papers).__enter__()
        return cls._alone

    def _end(self, result: Any) -> None:
        super()._end(result)
        cls = type(self)
        alone, cls._alone = cls._alone, None
        if alone is not None:
            alone.stop()
        if cls.papers is not None:
            cls.papers.remove()

    @property
    def cluster(self) -> Clustered:
        """The cluster under test."""
        assert isinstance(self._shared, Clustered)
        return self._shared

    def over_each(self, **options: Any) -> list[tuple[str, Connection]]:
        """For each worker: its tag, and a connection whose last request another worker served.

        Over TLS one of them is served by the worker that holds it, and the other relayed: the same
        worker holds both.
        """
        tags = self.cluster.tags()
        found = []
        for slot, tag in tags.items():
            connection = self.cluster.connect_by(1, **options)
            self.addCleanup(connection.close)
            others = [other for number, other in tags.items() if number != slot]
            self.assertEqual(connection.ask(request("GET", f"/?sid={others[0]}")).status, 200)
            found.append((tag, connection))
        return found


def cases(base: type, module: dict[str, Any], *names: str, accept: bool = True) -> None:
    """Make a test case of `base` for each interface, with TLS and without, in each accept mode."""
    modes = ("primary", "workers") if accept else ("primary",)
    for name, tls, mode in product(names or INTERFACES, (False, True), modes):
        title = f"{name}{'Tls' if tls else 'Clear'}{mode.title()}{base.__name__}"
        fields = {"interface": INTERFACES[name], "tls": tls, "accept": mode}
        module[title] = type(
            title, (base, EndingCase), {**fields, "__module__": module["__name__"]}
        )
