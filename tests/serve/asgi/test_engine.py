"""How an ASGI application, its engine and its loop are chosen."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from typing import Any
from unittest import mock

from twisted.internet import asyncioreactor

from tests.asgi import AsgiCase, Receive, Scope, Send, answer, nothing
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.asgi.engine import (
    WrongReactor,
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
