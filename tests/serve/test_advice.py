"""What to name in place of an object that is no application."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from typing import Any
from unittest import mock

import flask
import socketio
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from twisted.web.resource import Resource

from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.advice import _ADVICE, advice_for, script_advice
from txsticky.serve.loading import detect, load


def made(library: str, name: str, **members: Any) -> object:
    """An object of a library's class, or of one derived from that."""
    base = type(name, (), {"__module__": f"{library}.deep.down"})
    return type("Derived", (base,), {"__module__": "app", **members})()


class AdviceTests(SynchronousTestCase):
    """Objects of known libraries."""

    def refusal(self, app: object, target: str = "main:thing") -> str:
        """The reason that an object is no application."""
        return str(self.assertRaises(AppLoadError, detect, app, target))

    def test_known(self) -> None:
        """The refusal of a known library's object says what to name, in the operator's words."""
        for library, name in _ADVICE:
            said = self.refusal(made(library, name))
            self.assertRegex(said, r"main:thing does not load: it is a Derived; \w.*\.$")
            self.assertNotIn("{", said)

    def test_klein(self) -> None:
        """For a Klein object its resource is to be named."""
        said = self.refusal(made("klein", "Klein"), "web.app:k")
        self.assertIn("name its resource, with --factory: web.app:k.resource", said)

    def test_mcp(self) -> None:
        """For a server of MCP what makes its application is to be named."""
        for library, name, method in (
            ("mcp", "MCPServer", "streamable_http_app"),
            ("mcp", "FastMCP", "streamable_http_app"),
            ("fastmcp", "FastMCP", "http_app"),
        ):
            self.assertIn(f"--factory: main:thing.{method}.", self.refusal(made(library, name)))

    def test_callable(self) -> None:
        """Gradio's Blocks can be called, and are no WSGI application nevertheless."""
        blocks = made("gradio", "Blocks", __call__=lambda self, *args: None)
        self.assertIn("mount_gradio_app(fastapi.FastAPI(), thing", self.refusal(blocks))

    def test_dash(self) -> None:
        """A Dash object is served if it is a WSGI application, as of version 4; else its Flask."""
        dash = made("dash", "Dash", __call__=lambda self, environ, start_response: [])
        self.assertEqual(detect(dash), "wsgi")
        self.assertIn("main:thing.server", self.refusal(made("dash", "Dash")))

    def test_real_ones(self) -> None:
        """The classes that are known are those of the libraries."""
        blueprint = flask.Blueprint("b", __name__)
        self.assertIn("register it with a Flask application", self.refusal(blueprint))
        self.assertIn("app = socketio.WSGIApp(thing)", self.refusal(socketio.Server()))
        asgi = socketio.AsyncServer(async_mode="asgi")
        self.assertIn("app = socketio.ASGIApp(thing)", self.refusal(asgi))

    def test_function(self) -> None:
        """A function of a module that imports Panel may make a page of it."""
        module = types.ModuleType("pages")
        vars(module).update(pn=types.ModuleType("panel"), make=lambda: None)
        module.make.__module__ = "pages"
        with mock.patch.dict(sys.modules, {"pages": module}):
            said = self.refusal(module.make, "pages:make")
        self.assertIn("it takes no arguments; if it makes a page of Panel, add it to", said)
        self.assertIn("add --factory", self.refusal(lambda: None))

    def test_others(self) -> None:
        """An object of no known library, or of a class of the same name, has no advice."""
        self.assertIsNone(advice_for(made("mine", "Klein"), "a:b"))
        self.assertIsNone(advice_for(object(), "a:b"))

    def test_script(self) -> None:
        """A script of Streamlit is known by what it imports."""
        script = types.ModuleType("page")
        script.__file__ = "/srv/page.py"
        self.assertIsNone(script_advice(script))
        script.st = types.ModuleType("streamlit")  # type: ignore[attr-defined]
        self.assertIn('streamlit.starlette.App("page.py")', str(script_advice(script)))


class InterfaceTests(SynchronousTestCase):
    """An application, and another interface than its own."""

    def refusal(self, app: object, interface: str) -> str:
        """The reason that an application cannot be served so."""
        error = self.assertRaises(
            AppLoadError, serving_for, app, interface, ServeSettings(), None, "main:app"
        )
        return str(error)

    def test_named(self) -> None:
        """The sentence tells what the application is, and what to say."""
        app = flask.Flask(__name__)
        self.assertEqual(
            self.refusal(app, "asgi"),
            "The application main:app does not load: it is a WSGI application; leave out"
            " --interface=asgi, or say wsgi there.",
        )
        self.assertIn("it is a twisted.web Resource", self.refusal(Resource(), "protocol"))

    def test_coroutine(self) -> None:
        """An ASGI application is not taken for a WSGI one, whose every request would fail."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            """Do nothing."""

        self.assertIn("it is an ASGI application", self.refusal(app, "wsgi"))

    def test_known(self) -> None:
        """An object that no interface serves has its advice whatever the interface."""
        said = self.refusal(made("klein", "Klein"), "web")
        self.assertIn("--factory: main:app.resource", said)


class GreenletTests(SynchronousTestCase):
    """Applications that put greenlets in the place of threads."""

    def test_patched(self) -> None:
        """An application with greenlets is told what to leave out, and what to use instead."""
        for name, asked, call in (
            ("gevent.monkey", "is_module_patched", "gevent.monkey.patch_all()"),
            ("eventlet.patcher", "is_monkey_patched", "eventlet.monkey_patch()"),
        ):
            library = types.SimpleNamespace(**{asked: lambda part: part == "thread"})
            with mock.patch.dict(sys.modules, {name: library}):
                said = str(self.assertRaises(AppLoadError, load, "os:sep"))
            self.assertIn(f"it calls {call}, and greenlets do not run", said)
            self.assertIn("async_mode='threading'", said)

    def test_not_patched(self) -> None:
        """To import gevent alone is nothing."""
        library = types.SimpleNamespace(is_module_patched=lambda part: False)
        with mock.patch.dict(sys.modules, {"gevent.monkey": library}):
            self.assertEqual(load("os:sep"), "/")

    def test_gevent(self) -> None:
        """An application that gevent itself has patched is told what to leave out."""
        if importlib.util.find_spec("gevent") is None:
            raise SkipTest("gevent is not installed")
        script = (
            "from gevent import monkey\nmonkey.patch_all()\n"
            "from txsticky.serve.loading import load\nload('os:sep')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertIn("AppLoadError: The application os:sep does not load: it calls", done.stderr)
