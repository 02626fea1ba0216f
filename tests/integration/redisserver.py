"""A real Redis, for the tests that need one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from types import TracebackType
from typing import Self

import redis

from tests.certificates import Pair
from tests.integration.cluster import free_port
from tests.integration.processes import until

#: Why tests with Redis are skipped; empty if they are not.
MISSING = "" if shutil.which("redis-server") else "redis-server is not installed"


class RedisServer:
    """
    A redis-server of our own on a free port. A context manager.

    :param keeps: a folder in which it keeps its data from one start to the next; else it writes
        nothing to disk.
    """

    def __init__(
        self, password: str = "", tls: Pair | None = None, keeps: str | None = None
    ) -> None:
        self.keeps = keeps
        self.port = free_port()
        self.password = password
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, as `--bus` wants it."""
        host = "rediss://:{}@localhost" if self._tls else "redis://:{}@127.0.0.1"
        return f"{host.format(self.password)}:{self.port}/3"

    @property
    def stream(self) -> str:
        """Where its stream is, as `--bus` wants it."""
        return self.url.replace("://", "-stream://")

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self.port, password=self.password or None, db=3)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and waits until it listens."""
        arguments = ["--bind", "127.0.0.1", "--save", ""]
        if self.keeps:
            arguments += ["--appendonly", "yes", "--appendfsync", "always", "--dir", self.keeps]
        if self._tls is None:
            arguments += ["--port", str(self.port)]
        else:
            arguments += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            arguments += ["--tls-cert-file", self._tls.certificate, "--tls-key-file", self._tls.key]
        if self.password:
            arguments += ["--requirepass", self.password]
        self._process = subprocess.Popen(
            ["redis-server", *arguments],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._listens, 10, "redis-server listens")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def subscribers(self) -> int:
        """How many connections subscribe to a channel of it, each counted for each channel."""
        with self.client() as client:
            return sum(count for _, count in client.pubsub_numsub(*client.pubsub_channels()))

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ends it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
