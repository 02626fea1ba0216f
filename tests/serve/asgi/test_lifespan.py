"""The lifespan of an ASGI application."""

from __future__ import annotations

import asyncio
import json

from twisted.logger import LogEvent, globalLogPublisher

from tests.asgi import AsgiCase, Receive, Scope, Send, answer, nothing
from txsticky.serve.asgi.lifespan import LifespanFailed

from .cases import GET, Waiting


class LifespanTests(AsgiCase):
    """The application's lifespan."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        self.levels: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"].startswith("txsticky"):
                self.said.append(event["log_format"].format(**event))
                self.levels.append(event["log_level"].name)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def test_startup_and_shutdown(self) -> None:
        """The application starts before the first request and is shut down once, after the last."""
        seen = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "lifespan"
            for _ in range(2):
                message = await receive()
                seen.append(message["type"])
                await send({"type": f"{message['type']}.complete"})

        serving = self.make(app)
        self.fired(serving.start())
        self.assertEqual(seen, ["lifespan.startup"])
        self.fired(serving.stop(4.0))
        self.fired(serving.stop(4.0))
        self.assertEqual(seen, ["lifespan.startup", "lifespan.shutdown"])

    def test_state(self) -> None:
        """What the lifespan puts into the state is in each request's own."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                scope["state"]["pool"] = "shared"
                return await nothing(scope, receive, send)
            state = scope["state"]
            body = json.dumps(state).encode()
            state["mine"] = True
            return await answer(send, body)

        self.serve(app)
        for _ in range(2):
            self.assertEqual(self.ask(GET).body, b'{"pool": "shared"}')
        self.assertEqual(self.talk(self.client.ask, GET).body, b'{"pool": "shared"}')

    def test_startup_fails(self) -> None:
        """An application that says it cannot start does not; the reason is its last line."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            text = "Traceback (most recent call last):\n  ...\nOSError: no database\n"
            await send({"type": "lifespan.startup.failed", "message": text})
            raise OSError("no database")

        started = self.make(app).start()
        error = self.assertRaises(LifespanFailed, self.fired, started)
        self.assertEqual(str(error), "its lifespan failed: OSError: no database")
        self.assertEqual(self.said, [])

    def test_startup_fails_without_reason(self) -> None:
        """An application that does not say why it cannot start does not start either."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed"})

        error = self.assertRaises(LifespanFailed, self.fired, self.make(app).start())
        self.assertEqual(str(error), "its lifespan failed: it does not say why")

    def test_raises_at_startup(self) -> None:
        """To refuse a lifespan is no fault, and does not read like one."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                raise ValueError("no lifespan here")
            await answer(send, b"served")

        self.serve(app)
        self.assertEqual(self.ask(GET).body, b"served")
        self.assertEqual(
            self.said,
            [
                "The application has no lifespan, and is served without one.",
                "At its lifespan the application raised ValueError: no lifespan here",
            ],
        )
        self.assertEqual(self.levels, ["info", "debug"])

    def test_raises_in_startup(self) -> None:
        """An application that raises once it has begun to start is served, with a warning."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await receive()
                raise LookupError("no database")
            await answer(send, b"served")

        self.serve(app)
        self.assertEqual(self.ask(GET).body, b"served")
        self.assertEqual(
            self.said,
            ["The application is served although its lifespan ended with LookupError: no database"],
        )
        self.assertEqual(self.levels, ["warn"])

    def test_raises_at_shutdown(self) -> None:
        """An application that raises when it is shut down is logged, and stops."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            raise ValueError("cannot let go")

        serving = self.make(app)
        self.fired(serving.start())
        self.fired(serving.stop(4.0))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stream_without_end(self) -> None:
        """An application that still answers when the worker leaves hears of a disconnect."""
        app = Waiting(begins=True)
        self.serve(app)
        client = self.connect(GET)
        self.until(lambda: app.waits)
        self.fired(self.serving.stop(4.0))
        self.assertEqual(app.heard, [{"type": "http.disconnect"}])
        self.assertFalse(self.serving.busy)
        client.close()

    def test_work_behind_the_response(self) -> None:
        """An application at work behind its response is busy, and cancelled at the very end."""
        ends = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                return await nothing(scope, receive, send)
            await answer(send, b"accepted")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        serving = self.make(app)
        self.fired(serving.start())
        self.serving = serving
        self.assertEqual(self.ask(GET).body, b"accepted")
        self.assertTrue(serving.busy)
        self.fired(serving.stop(0.04))
        self.assertEqual((ends, serving.busy), (["cancelled"], False))
