"""Loading an application, and telling what it is."""

from __future__ import annotations

import abc
import functools
import os
import subprocess
import sys
import types
from typing import Any

import flask
import socketio
from autobahn.twisted.websocket import WebSocketServerFactory
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from twisted.application.service import Service
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from twisted.web.wsgi import WSGIResource
from zope.interface import classImplements

from txsticky.errors import AppLoadError
from txsticky.serve.loading import AppRaisedError, describe, detect, load, unmark_library


class LoadTests(TestCase):
    """From `module:attribute` to an object."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(self.mktemp())
        os.mkdir(self.directory)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        self.patch(sys, "path", ["", *sys.path])
        self.addCleanup(self.forget)

    def forget(self) -> None:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(self.directory):
                del sys.modules[name]

    def write(self, path: str, *lines: str) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as file:
            file.write("\n".join(lines))

    def refusal(self, target: str, factory: bool = False) -> str:
        return str(self.assertRaises(AppLoadError, load, target, factory))

    def test_attribute_of_a_module(self) -> None:
        """`module:attribute` is that attribute."""
        self.write("plain_app.py", "app = object()")
        self.assertIs(load("plain_app:app"), sys.modules["plain_app"].app)

    def test_no_directory(self) -> None:
        """Without a current directory nothing is found, and that is said."""
        os.rmdir(self.directory)
        self.assertIn("in which it was started is gone", self.refusal("plain_app:app"))

    def test_dotted_both_ways(self) -> None:
        """Module and attribute may be dotted."""
        self.write("house/__init__.py")
        self.write("house/room.py", "class Chest:", "    drawer = 'found'")
        self.assertEqual(load("house.room:Chest.drawer"), "found")

    def test_current_directory_comes_first(self) -> None:
        """A module in the current directory wins over an installed one of the same name."""
        sys.path[:] = [path for path in sys.path if path not in ("", self.directory)]
        self.write("flask_app_that_is_here.py", "app = 'here'")
        self.write("elsewhere/flask_app_that_is_here.py", "app = 'elsewhere'")
        sys.path.insert(0, os.path.join(self.directory, "elsewhere"))
        self.assertEqual(load("flask_app_that_is_here:app"), "here")

    def test_factory_is_called(self) -> None:
        """With --factory the attribute is called for the application."""
        self.write("made.py", "def make():", "    return 'made'")
        self.assertEqual(load("made:make", factory=True), "made")

    def test_no_colon(self) -> None:
        """A target without attribute is told how to be written."""
        self.assertEqual(
            self.refusal("shop"),
            "The application shop does not load: write it as module:attribute, for example "
            "shop:app.",
        )

    def test_file_name(self) -> None:
        """A file's name is told to be a module's name."""
        self.assertIn("not its file: web.shop:app.", self.refusal("./web/shop.py:app"))

    def test_missing_module_and_the_nearest(self) -> None:
        """A missing module is named, with the module in the directory that looks like it."""
        self.write("my_shop.py")
        self.assertIn("there is no module my_shp (is it my_shop?).", self.refusal("my_shp:app"))

    def test_called(self) -> None:
        """A target that is written as a call is told with what to write."""
        said = str(self.assertRaises(AppLoadError, load, "house.room:make()"))
        self.assertIn("leave out the parentheses, and add --factory: house.room:make.", said)

    def test_missing_module_in_a_package(self) -> None:
        """In a package the nearest is searched among the package's modules."""
        self.write("house/__init__.py")
        self.write("house/kitchen.py")
        self.assertIn(
            "there is no module house.kitchn (is it house.kitchen?).",
            self.refusal("house.kitchn:app"),
        )

    def test_missing_module_like_no_other(self) -> None:
        """Where nothing is near, nothing is offered."""
        self.assertIn("no module qqqqxyz.", self.refusal("qqqqxyz:app"))

    def test_missing_attribute_and_the_nearest(self) -> None:
        """A missing attribute is named, with those that look like it."""
        self.write("my_shop.py", "application = 1")
        self.assertIn(
            "my_shop has no attribute aplication (is it application?).",
            self.refusal("my_shop:aplication"),
        )

    def test_import_that_raises(self) -> None:
        """An exception while importing is told with its text and the application's own line."""
        self.write("broken.py", "import json", "", "json.loads('{')", "app = 1")
        error = self.assertRaises(AppRaisedError, load, "broken:app")
        self.assertEqual(
            str(error),
            "The application broken:app does not load: json.decoder.JSONDecodeError: Expecting "
            "property name enclosed in double quotes: line 1 column 2 (char 1) "
            f"(at {self.directory}/broken.py:3).",
        )
        self.assertEqual(error.exit_code, 3)

    def test_missing_module_further_in(self) -> None:
        """A module that the application misses is the application's trouble, at its line."""
        self.write("needy.py", "import time", "import not_there_at_all")
        self.assertIn(
            "No module named 'not_there_at_all' (at " + self.directory + "/needy.py:2)",
            self.refusal("needy:app"),
        )

    def test_syntax_error(self) -> None:
        """A syntax error is told with its line."""
        self.write("odd.py", "app = 1", "app = = 2")
        self.assertIn(
            f"SyntaxError: invalid syntax (at {self.directory}/odd.py:2)", self.refusal("odd:app")
        )

    def test_import_that_exits(self) -> None:
        """An application that calls sys.exit() on import does not end the worker silently."""
        self.write("leaver.py", "import sys", "sys.exit('no database')")
        self.assertIn("SystemExit: no database", self.refusal("leaver:app"))

    def test_factory_that_raises(self) -> None:
        """An exception in the factory is told as one in the import is."""
        self.write("made.py", "def make():", "    raise RuntimeError('no.')")
        self.assertIn(
            f"RuntimeError: no (at {self.directory}/made.py:2).", self.refusal("made:make", True)
        )

    def test_factory_that_wants_arguments(self) -> None:
        """A factory that takes arguments is told so in Python's words."""
        self.write("made.py", "def make(settings):", "    pass")
        self.assertIn("missing 1 required positional argument", self.refusal("made:make", True))

    def test_factory_that_is_none(self) -> None:
        """With --factory something that cannot be called is refused."""
        self.write("made.py", "make = 7")
        self.assertIn("has to be callable, and it is an int.", self.refusal("made:make", True))


class AsyncCallable:
    """An ASGI application as a class's instance."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""


class AwaitableEndpoint:
    """An ASGI application as a class (Starlette's HTTPEndpoint is one)."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    def __await__(self) -> Any:
        yield


class IterableResponse:
    """A WSGI application as a class (PEP 3333, "The Application/Framework Side")."""

    def __init__(self, environ: Any, start_response: Any) -> None:
        """Do nothing."""

    def __iter__(self) -> Any:
        yield b""


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""


async def asgi_app_with_options(options: Any, scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application, once `options` is bound."""


def asgi_wrapper(scope: Any, receive: Any, send: Any) -> Any:
    """An ASGI application that is no coroutine function but returns a coroutine."""
    return asgi_app(scope, receive, send)


def wsgi_app(environ: Any, start_response: Any) -> Any:
    """A WSGI application."""


def wsgi_app_with_options(options: Any, environ: Any, start_response: Any) -> Any:
    """A WSGI application, once `options` is bound."""


class DetectTests(TestCase):
    """What kind of application an object is."""

    def check(self, kind: str, *apps: object) -> None:
        for app in apps:
            self.assertEqual(detect(app), kind, repr(app))

    def refusal(self, app: object) -> str:
        return str(self.assertRaises(AppLoadError, detect, app))

    def test_resources(self) -> None:
        """A Resource is web, also one that only provides IResource."""
        reactor = MemoryReactorClock()
        self.check("web", Resource(), WSGIResource(reactor, None, wsgi_app))

    def test_factories(self) -> None:
        """Protocol factories, Site and autobahn's among them, are protocol."""
        reactor = MemoryReactorClock()
        self.check(
            "protocol",
            Factory.forProtocol(Protocol),
            Site(Resource(), reactor=reactor),
            WebSocketServerFactory(reactor=reactor),
        )

    def test_asgi(self) -> None:
        """Whatever returns a coroutine for (scope, receive, send) is asgi."""
        self.check(
            "asgi",
            asgi_app,
            AsyncCallable(),
            AsyncCallable().__call__,
            AwaitableEndpoint,
            functools.partial(asgi_app_with_options, {}),
            functools.partial(AsyncCallable()),
            asgi_wrapper,
            FastAPI(),
            socketio.ASGIApp(socketio.AsyncServer(async_mode="asgi")),
        )

    def test_wsgi(self) -> None:
        """Other callables are wsgi."""
        self.check(
            "wsgi",
            wsgi_app,
            flask.Flask("shop"),
            WSGIHandler.__new__(WSGIHandler),  # its __init__ wants a whole Django project
            IterableResponse,
            functools.partial(wsgi_app_with_options, {}),
            lambda *arguments: [],
            socketio.WSGIApp(socketio.Server(async_mode="threading")),
        )

    def test_resource_class(self) -> None:
        """A Resource's class is told to be instantiated."""
        self.assertIn(
            "Resource is a class; name an instance of it, or add --factory", self.refusal(Resource)
        )

    def test_factory_class(self) -> None:
        """A factory's class is told to be instantiated."""
        self.assertIn("Site is a class; name an instance", self.refusal(Site))

    def test_protocol_class(self) -> None:
        """A protocol's class is told how to become a factory."""
        self.assertIn("Factory.forProtocol(Protocol)", self.refusal(Protocol))

    def test_protocol_instance(self) -> None:
        """One protocol cannot serve all connections."""
        self.assertIn("it is one protocol; name a factory", self.refusal(Protocol()))

    def test_other_class(self) -> None:
        """A class that is no application might be a factory."""
        self.assertIn("add --factory if calling it makes one", self.refusal(Exception))

    def test_callable_without_arguments(self) -> None:
        """A function without arguments is most likely a factory."""
        self.assertIn("add --factory if calling it returns", self.refusal(lambda: None))

    def test_callable_with_odd_arguments(self) -> None:
        """A function with one argument is neither WSGI nor ASGI 3."""
        self.assertIn("it takes 1 argument(s), where a WSGI", self.refusal(lambda scope: None))

    def test_module(self) -> None:
        """A module is told that its attribute is wanted."""
        self.assertIn("it is a module; name the application in it", self.refusal(os))

    def test_coroutine(self) -> None:
        """What an async factory returns is no application."""
        self.assertIn("it is a coroutine", self.refusal(asgi_app(None, None, None)))

    def test_service(self) -> None:
        """A service of Twisted is told that its resource or factory is wanted."""
        self.assertIn("it is a service", self.refusal(Service()))

    def test_senseless(self) -> None:
        """Anything else is told what an application may be."""
        self.assertEqual(
            self.refusal(7),
            "The application an int does not load: it is an int, and not a twisted.web Resource, a "
            "protocol factory, an ASGI or a WSGI application.",
        )

    def test_the_operators_name_for_it(self) -> None:
        """The sentence names the application as the operator did."""
        error = self.assertRaises(AppLoadError, detect, types.SimpleNamespace(), "shop:app")
        self.assertIn("The application shop:app does not load: it is a SimpleNamespace", str(error))


class ReactorTests(TestCase):
    """The reactor is the worker's to choose."""

    def test_importing_serve_installs_no_reactor(self) -> None:
        """No module of serve imports the reactor with itself."""
        code = (
            "import sys\n"
            "import txsticky.serve.loading, txsticky.serve.web.resource\n"
            "import txsticky.serve.wsgi.serving\n"
            "import txsticky.serve.protocol, txsticky.serve.asgi.serving\n"
            "print('twisted.internet.reactor' in sys.modules)\n"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.stdout, done.stderr), ("False\n", ""))


class LibraryTests(TestCase):
    """Python's own classes, from which those of an application are derived."""

    SCRIPT = """
import sys
from txsticky.serve.asgi.engine import install_asyncio_reactor
from txsticky.serve.loading import load
if sys.argv[1] == "early":
    install_asyncio_reactor()
print(load("walks:app")())
install_asyncio_reactor()
import walks
print(walks.app())
"""
    WALKS = """
import abc, typing
from zope.interface import Interface

T = typing.TypeVar("T")

class Speaks(typing.Protocol):
    pass

class Base(abc.ABC, typing.Generic[T]):
    pass

Interface.providedBy(Base)

def app():
    class Component(Base[int], Speaks):
        pass
    class Kind(abc.ABCMeta):
        pass
    for kind in (Component, Speaks, Kind):
        for name in dir(kind):
            if name not in ("__abstractmethods__",):
                getattr(kind, name)
    return "walked"
"""

    def test_attributes(self) -> None:
        """
        What `dir()` lists of a class can be got, whether the asyncio reactor came first or not:
        Gradio gets all of it.
        """
        directory = os.path.realpath(self.mktemp())
        os.mkdir(directory)
        with open(os.path.join(directory, "walks.py"), "w") as file:
            file.write(self.WALKS)
        for when in ("early", "late"):
            done = subprocess.run(
                [sys.executable, "-c", self.SCRIPT, when],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.assertEqual((done.stdout, done.stderr), ("walked\nwalked\n", ""))

    def test_interfaces_stay(self) -> None:
        """What was declared of a class that is derived from one of them still holds."""

        class Thing(abc.ABC):  # noqa: B024 - it is only derived from
            pass

        class Page(Thing):
            pass

        classImplements(Page, IResource)
        unmark_library()
        self.assertNotIn("__provides__", vars(abc.ABC))
        self.assertTrue(IResource.providedBy(Page()))
        self.assertFalse(IResource.providedBy(Thing()))


class DescribeTests(TestCase):
    """What an object is called in a sentence."""

    def test_article(self) -> None:
        """The article is that which is spoken: capitals are spelled."""
        for name, said in (
            ("MCPServer", "an MCPServer"),
            ("HTTPApp", "an HTTPApp"),
            ("URLMap", "a URLMap"),
            ("TCPServer", "a TCPServer"),
            ("Flask", "a Flask"),
            ("App", "an App"),
            ("User", "a User"),
            ("Universe", "a Universe"),
            ("Uncle", "an Uncle"),
            ("Upload", "an Upload"),
            ("int", "an int"),
            ("str", "a str"),
            ("_Inner", "a _Inner"),
            ("X", "an X"),
        ):
            self.assertEqual(describe(type(name, (), {})()), said)
