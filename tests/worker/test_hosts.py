"""Every command at every state of a connection, on every host, by chance that repeats itself."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import ssl
import time
import types
from pathlib import Path
from typing import Any, ClassVar

from tests.certificates import pair
from tests.tls.cases import Client
from txsticky.core.lifecycle.life import LifeState
from txsticky.serve.asgi import native
from txsticky.serve.asgi.engine import new_loop
from txsticky.serve.asgi.facade import FacadeFactory
from txsticky.serve.asgi.serving import AsgiServing
from txsticky.tls.certificates import load_certificates
from txsticky.transport import half_close
from txsticky.transport.write_batch import WriteBatch

from .hosts import AsyncioInner, HostCase, Peer


class TwistedTests(HostCase):
    """Twisted's transports with a gate in them."""

    wanted = {LifeState.BEGUN, LifeState.SERVING, LifeState.CLOSING, LifeState.GONE}

    def test_every_command(self) -> None:
        """Nothing is left behind, nothing raises, each connection ends in one place."""
        self.fuzz()

    def test_withheld(self) -> None:
        """What is withheld counts as what the client does not take."""
        self.withhold()


class RelayedTests(TwistedTests):
    """Connections whose TLS another worker ends."""

    secure = True


class PlainTests(HostCase):
    """Twisted's transports without a gate."""

    wanted = TwistedTests.wanted
    framed = False

    def prepare(self) -> None:
        super().prepare()
        self.serving.http = False

    def test_every_command(self) -> None:
        """Nothing is left behind, nothing raises, each connection ends in one place."""
        self.fuzz()


class NativeTests(HostCase):
    """asyncio's transports, on asyncio's loop."""

    make_inner = AsyncioInner
    loop_name: ClassVar[str] = "asyncio"
    wanted = {
        LifeState.MADE,
        LifeState.BEGUN,
        LifeState.SERVING,
        LifeState.FLUSHING,
        LifeState.DEPARTING,
        LifeState.GONE,
    }

    def setUp(self) -> None:
        first = new_loop(self.loop_name)  # libuv opens a pipe for the process, once
        first.call_soon(first.stop)
        first.run_forever()
        first.close()
        super().setUp()

    def prepare(self) -> None:
        self.loop = new_loop(self.loop_name)
        self.addCleanup(self.loop.close)
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.patch(half_close, "HALF_CLOSE_GRACE", 0.02)
        self.patch(native, "RESPITE", 0.001)
        tasks: set[Any] = set()
        serving = types.SimpleNamespace(
            _loop=self.loop,
            _entering=None,
            _turn=WriteBatch(self.loop.call_soon, self.loop.time),
            _keep=tasks.add,
            protocol=self.make_inner,
        )
        serving._connect = types.MethodType(AsgiServing._connect, serving)
        self.serving.adopt = types.MethodType(AsgiServing.adopt, serving)  # type: ignore[attr-defined]
        self.addCleanup(self.finish_tasks, tasks)
        self._dup = os.dup
        self.patch(os, "dup", self.dup)

    def finish_tasks(self, tasks: set[Any]) -> None:
        """Assert that the loop has nothing left."""
        self.once(20)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())

    def dup(self, descriptor: int) -> int:
        """Duplicate, if there is a descriptor left."""
        if self.chance.random() < 0.3 + 0.3 * (not self.acting):
            raise OSError(errno.EMFILE, "Too many open files")
        return self._dup(descriptor)

    def once(self, times: int = 1) -> None:
        """Turn the loop once."""
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def step(self) -> None:
        super().step()
        self.once()

    def pass_time(self) -> None:
        time.sleep(0.005)
        self.once(2)

    def settle(self) -> None:
        for _ in range(6):
            super().settle()
            time.sleep(0.002)

    def check(self, seed: int) -> None:
        super().check(seed)
        self.assertEqual(self.complaints, [], f"seed {seed}")

    def test_every_command(self) -> None:
        """Nothing is left behind, nothing raises, each connection ends in one place."""
        self.fuzz()

    def test_withheld(self) -> None:
        """What is withheld counts as what the client does not take."""
        self.withhold()


class UvloopTests(NativeTests):
    """asyncio's transports, on uvloop."""

    loop_name = "uvloop"
    if importlib.util.find_spec("uvloop") is None:
        skip = "uvloop is not installed"


class SecurePeer(Peer):
    """A client over TLS."""

    def __init__(self, number: int, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(number, sock)
        self.client = Client(sock, context, "tls.test")
        self.client.turn()

    def send(self, data: bytes) -> None:
        if not self.client.shaken or self.client.closed or self.client.aborted:
            return
        try:
            self.client.send(data)
        except OSError:
            return
        self.sent += data

    def turn(self) -> None:
        try:
            self.client.turn()
        except OSError:
            self.client.aborted = True


class SecureTests(HostCase):
    """Clients over TLS, with a protocol of Twisted's inside."""

    wanted = {LifeState.SERVING, LifeState.CLOSING, LifeState.GONE}

    def prepare(self) -> None:
        super().prepare()
        folder = Path(self.mktemp())
        folder.mkdir()
        made = pair(folder, "tls.test")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(made.certificate)
        self.certificates = load_certificates([made.certificate], [made.key])

    def adopted(self) -> tuple[Peer, socket.socket, bytes]:
        server, client = socket.socketpair()
        self.owned(client)
        client.setblocking(False)
        hello = b""
        peer = SecurePeer(len(self.peers), client, self.context)
        if self.chance.random() < 0.5:  # the primary has read the beginning of the handshake
            hello = server.recv(1 << 16)
        return peer, server, hello

    def next_request(self, peer: Peer) -> bytes:
        return peer.request()

    def half_close(self, peer: Peer) -> None:
        if peer.client.shaken:  # type: ignore[attr-defined]
            try:
                peer.client.close()  # type: ignore[attr-defined]
            except (ssl.SSLError, OSError):
                pass
        else:
            super().half_close(peer)
        peer.send = lambda data: None  # type: ignore[method-assign]

    def test_every_command(self) -> None:
        """Nothing is left behind, nothing raises, each connection ends in one place."""
        self.fuzz()

    def test_withheld(self) -> None:
        """What is withheld counts as what the client does not take."""
        self.withhold()


class FacadeTests(SecureTests):
    """Clients over TLS, with a protocol of asyncio's inside."""

    make_inner = AsyncioInner

    def prepare(self) -> None:
        super().prepare()
        self.serving.factory = FacadeFactory(self.make_inner, None)
