"""How an ASGI application, its engine and its loop are chosen."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet import asyncioreactor
from twisted.trial.unittest import SynchronousTestCase

from tests.asgi import AsgiCase, Receive, Scope, Send, answer, nothing
from txsticky.core.lifecycle.timing import CLOSE_HANDSHAKE
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.asgi.engine import (
    WrongReactor,
    close_websocket,
    engine_settings,
    install_asyncio_reactor,
    new_loop,
    websocket_class,
)

from .cases import GET, told


class LoadingTests(AsgiCase):
    """What is taken for an ASGI application, and what the environment chooses."""

    def test_kinds(self) -> None:
        """Coroutine functions, partial ones, objects, classes, functions, ASGI 2: all serve."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            return await answer(send, b"served")

        async def two(x: int, scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        class Callable:
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await app(scope, receive, send)

        class Awaitable:
            def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
                self._work = app(scope, receive, send)

            def __await__(self) -> Any:
                return self._work.__await__()

        def plain(scope: Scope, receive: Receive, send: Send) -> Any:
            return app(scope, receive, send)

        def asgi2(scope: Scope) -> Any:
            return functools.partial(app, scope)

        for kind in (app, functools.partial(two, 1), Callable(), Awaitable, plain, asgi2):
            self.serve(kind)
            self.assertEqual(self.ask(GET).body, b"served", kind)

    def test_others(self) -> None:
        """What is no ASGI application is refused, and told so."""
        for other in (7, lambda environ, start_response: []):
            error = self.assertRaises(AppLoadError, self.make, other)
            self.assertIn("with --interface=asgi it has to be an ASGI application", str(error))

    def test_without_uvicorn(self) -> None:
        """Where uvicorn is missing, the sentence says what to install."""
        with mock.patch.dict(sys.modules, {"uvicorn": None}):
            error = self.assertRaises(AppLoadError, self.make, told)
        self.assertIn("pip install 'txsticky[asgi]'", str(error))

    def test_other_reactor(self) -> None:
        """With another reactor installed, the application cannot be served in this process."""
        with mock.patch.dict(sys.modules, {"twisted.internet.reactor": object()}):
            error = self.assertRaises(WrongReactor, serving_for, told, "auto", ServeSettings())
        self.assertIn("--interface=asgi", str(error))
        self.assertEqual(error.exit_code, 3)

    def test_websockets(self) -> None:
        """The default engine of WebSockets makes no record in vain; others stay as they are."""
        self.serve(told)
        quiet = self.serving._config.ws_protocol_class
        self.assertEqual(quiet.__mro__[1].__name__, "WebSocketsSansIOProtocol")
        for other in (None, object):
            self.assertIs(websocket_class(other), other)

    def test_asyncio_reactor_stays(self) -> None:
        """An asyncio reactor that is installed already is used."""

        class Installed:
            _asyncioEventloop = None

        reactor = Installed()
        with (
            mock.patch.dict(sys.modules, {"twisted.internet.reactor": reactor}),
            mock.patch.object(asyncioreactor, "install") as install,
        ):
            install_asyncio_reactor()
            self.assertIs(sys.modules["twisted.internet.reactor"], reactor)
        self.assertEqual(install.call_count, 0)

    def test_environment(self) -> None:
        """uvicorn's own variables choose its engines."""
        found = engine_settings(
            {
                "UVICORN_H11_MAX_INCOMPLETE_EVENT_SIZE": "5",
                "UVICORN_HTTP": "h11",
                "UVICORN_WS": "wsproto",
                "UVICORN_WS_MAX_SIZE": "1000",
                "UVICORN_WS_PING_INTERVAL": "2.5",
                "UVICORN_WS_PER_MESSAGE_DEFLATE": "false",
                "UVICORN_LIFESPAN": "off",
            }
        )
        self.assertEqual(
            found,
            {
                "http": "h11",
                "ws": "wsproto",
                "ws_max_size": 1000,
                "ws_ping_interval": 2.5,
                "ws_per_message_deflate": False,
                "lifespan": "off",
                "h11_max_incomplete_event_size": 5,
            },
        )

    def test_head_limit(self) -> None:
        """h11 takes heads as large as the limit, and what is added to them."""
        found = engine_settings({}, 200_000)["h11_max_incomplete_event_size"]
        self.assertGreater(found, 200_000)

    def test_bad_environment(self) -> None:
        """A value that cannot be read is refused, and the variable is named."""
        variables = {"UVICORN_WS_MAX_SIZE": "much"}
        error = self.assertRaises(AppLoadError, engine_settings, variables)
        self.assertIn("$UVICORN_WS_MAX_SIZE", str(error))

    def test_missing_engine(self) -> None:
        """An engine that is not there is a reason not to load."""
        self.patch(os, "environ", {"UVICORN_HTTP": "no_such_engine:Protocol"})
        error = self.assertRaises(AppLoadError, self.make, told)
        self.assertIn("uvicorn cannot serve it", str(error))
        self.assertIn("no_such_engine", str(error))

    def test_loops(self) -> None:
        """uvloop is used unless asyncio is asked for."""
        for name, module in (("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")):
            loop = new_loop(name)
            loop.close()
            packages = {kind.__module__.partition(".")[0] for kind in type(loop).__mro__}
            self.assertEqual("uvloop" in packages, module == "uvloop")

    def test_loop_of_the_environment(self) -> None:
        """The reactor runs on the loop that `UVICORN_LOOP` names."""
        self.patch(os, "environ", {"UVICORN_LOOP": "asyncio"})
        with (
            mock.patch.dict(sys.modules),
            mock.patch.object(asyncio, "set_event_loop"),
            mock.patch.object(asyncioreactor, "install") as install,
        ):
            sys.modules.pop("twisted.internet.reactor", None)
            install_asyncio_reactor()
        (loop,) = install.call_args.args
        loop.close()
        self.assertEqual(type(loop).__module__.partition(".")[0], "asyncio")

    def test_without_websockets(self) -> None:
        """Where `websockets` is missing, uvicorn chooses the engine of WebSockets."""
        self.assertEqual(engine_settings({})["ws"], "websockets-sansio")
        with mock.patch.dict(sys.modules, {"websockets.server": None}):
            self.assertEqual(engine_settings({})["ws"], "auto")

    def test_no_lifespan(self) -> None:
        """With UVICORN_LIFESPAN=off the application is not asked for one."""
        asked = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            asked.append(scope["type"])

        self.patch(os, "environ", {"UVICORN_LIFESPAN": "off"})
        self.serve(app)
        self.assertEqual(asked, [])


class GoodbyeTests(SynchronousTestCase):
    """How a WebSocket is closed, by what uvicorn's protocols have."""

    def protocol(self, **fields: Any) -> Any:
        """A protocol of the engine on websockets' new implementation, with an open WebSocket."""
        transport = mock.Mock()
        transport.is_closing.return_value = False
        connection = mock.Mock(spec=["send_close", "data_to_send"])
        connection.data_to_send.return_value = [b"fare", b"well"]
        usual = {"handshake_complete": True, "conn": connection, "close_sent": False}
        own = {"transport": transport, "queue": mock.Mock(), "loop": mock.Mock()}
        return SimpleNamespace(**{**usual, **own, **fields})

    def check_untouched(self, protocol: Any) -> None:
        """The protocol says nothing, and will not be closed."""
        self.assertEqual(protocol.transport.write.call_count, 0)
        self.assertEqual(protocol.loop.call_later.call_count, 0)

    def test_open(self) -> None:
        """The client and the application are told, and the client has some time to answer."""
        protocol = self.protocol()
        self.assertIs(close_websocket(protocol), True)
        protocol.conn.send_close.assert_called_once_with(1001)
        protocol.transport.write.assert_called_once_with(b"farewell")
        protocol.queue.put_nowait.assert_called_once_with(
            {"type": "websocket.disconnect", "code": 1001}
        )
        protocol.loop.call_later.assert_called_once_with(CLOSE_HANDSHAKE, protocol.transport.close)

    def test_timer(self) -> None:
        """The end of the time to answer is kept where uvicorn ends it when the answer comes."""
        protocol = self.protocol()
        close_websocket(protocol)
        self.assertIs(protocol.close_timer, protocol.loop.call_later.return_value)

    def test_not_yet(self) -> None:
        """Before the handshake there is no WebSocket to close, nor on a connection without one."""
        for fields in (
            {"handshake_complete": False},
            {"conn": None},
            {"handshake_complete": False, "conn": None},
        ):
            protocol = self.protocol(**fields)
            self.assertIs(close_websocket(protocol), False)
            self.check_untouched(protocol)

    def test_http(self) -> None:
        """A protocol of HTTP is no WebSocket."""
        self.assertIs(close_websocket(SimpleNamespace()), False)

    def test_old_version(self) -> None:
        """A protocol that does not tell of its handshake has none."""
        protocol = self.protocol()
        del protocol.handshake_complete
        self.assertIs(close_websocket(protocol), False)

    def test_closing(self) -> None:
        """A WebSocket that is closing already is not told again."""
        protocols = [self.protocol(close_sent=True), self.protocol(close_timer=object())]
        protocols.append(self.protocol())
        protocols[-1].transport.is_closing.return_value = True
        for protocol in protocols:
            self.assertIs(close_websocket(protocol), True)
            self.check_untouched(protocol)

    def test_paused(self) -> None:
        """A WebSocket that reads no more reads on, for the client's answer."""
        for paused in (True, False):
            protocol = self.protocol(read_paused=paused)
            close_websocket(protocol)
            self.assertFalse(protocol.read_paused)
            self.assertEqual(protocol.transport.resume_reading.call_count, int(paused))

    def test_old_implementation(self) -> None:
        """The engine of websockets' old implementation closes in a task, within the same time."""
        protocol = mock.Mock(spec=["fail_connection", "open", "loop", "close", "close_timeout"])
        protocol.open = True
        self.assertIs(close_websocket(protocol), True)
        protocol.close.assert_called_once_with(1001)
        protocol.loop.create_task.assert_called_once_with(protocol.close.return_value)
        self.assertEqual(protocol.close_timeout, CLOSE_HANDSHAKE)

    def test_old_implementation_closed(self) -> None:
        """The engine of websockets' old implementation does not close twice."""
        protocol = mock.Mock(spec=["fail_connection", "open", "loop"])
        protocol.open = False
        self.assertIs(close_websocket(protocol), True)
        self.assertEqual(protocol.loop.create_task.call_count, 0)
