"""What a template has ready before the first worker is forked."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from .. import api
from ..config import Config
from ..core.messages.forks import Prepare
from ..errors import TxstickyError
from ..serve import HOMES
from ..system.startup import flush_streams
from ..worker.process import Preparation, load_app, load_tls

log = Logger()

#: What every worker imports, sooner or later. None of it imports Twisted's reactor.
_ALWAYS: Final = (
    "txsticky.worker.worker",
    "twisted.internet.default",
    "twisted.internet.epollreactor",
)
_TLS: Final = ("txsticky.tls.termination", "txsticky.tls.connection", "txsticky.tls.transport")
#: What an application of each interface needs besides what serves it. What is not installed is left
#: out, and the part of autobahn that is imported binds it to no framework.
_BY_INTERFACE: Final = {
    "web": ("twisted.web.static", "autobahn.websocket.protocol"),
    "wsgi": ("encodings.idna",),
    "asgi": (
        "txsticky.serve.asgi.lifespan",
        "txsticky.serve.asgi.remembering",
        "txsticky.serve.asgi.uv",
        "twisted.internet.asyncioreactor",
        "uvicorn.lifespan.on",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
    ),
    "protocol": ("autobahn.websocket.protocol",),
}
#: What an event loop, of whatever make, waits with (proc(5), /proc/pid/fd).
_LOOPS: Final = frozenset({"anon_inode:[eventpoll]", "anon_inode:[io_uring]"})


class Unfit(Exception):
    """The application is none that can be imported before the fork."""


def warm(config: Config, prepare: Prepare) -> Preparation:
    """
    Import what a worker needs, and read the certificates.

    :raises Unfit: the application is not to be imported here; it was, in part.
    """
    for name in _names(config, prepare.interface):
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # it is not installed, or not on this system
    try:
        certificates = load_tls(config, prepare.files, shared=True)
    except TxstickyError:
        certificates = None  # a worker sees it again, and says so
    app = _preload(config) if prepare.preload else None
    return Preparation(logging=True, certificates=certificates, app=app)


def _names(config: Config, interface: str) -> Iterable[str]:
    yield from _ALWAYS
    if config.tls:
        yield from _TLS
    for known, names in _BY_INTERFACE.items():
        if interface in (known, "auto"):
            yield HOMES[known]
            yield from names


def _preload(config: Config) -> Any:
    """
    Import the application, and see what else that has done.

    :raises Unfit: it does not load, or has an event loop now.
    """
    here, before = os.getpid(), _event_loops()
    api.hold()
    try:
        app = load_app(config)
    except TxstickyError as error:
        log.debug("The application was not imported: {error}", error=error)
        raise Unfit from None  # a worker sees it again, and says so
    if os.getpid() != here:
        flush_streams()
        os._exit(0)  # a process that the application has forked, which is to do nothing here
    if "twisted.internet.reactor" in sys.modules:
        _refuse("imports Twisted's reactor", "Import it in functions, or leave --preload out.")
    if _event_loops() != before:
        _refuse("makes an event loop", "Let it do so later, or leave --preload out.")
    _warn_of_threads()
    return app


def _refuse(what: str, advice: str) -> None:
    log.warn(
        "--preload has no effect: the application {what} while it is imported, which processes"
        " cannot share. {advice}",
        what=what,
        advice=advice,
    )
    raise Unfit


def _event_loops() -> int:
    """How many event loops are open in this process, by what the system shows of its files."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir() if os.path.isdir("/proc/self/fd") else ():
        try:
            found += os.readlink(entry) in _LOOPS
        except OSError:
            pass  # what the listing itself had open
    return found


def _warn_of_threads() -> None:
    """Tell of threads that run: a fork copies none of them (fork(2))."""
    names = [thread.name for thread in threading.enumerate()]
    names.remove(threading.current_thread().name)
    try:
        unnamed = len(os.listdir("/proc/self/task")) - 1 - len(names)
    except OSError:
        unnamed = 0
    if unnamed > 0:
        names.append(f"{unnamed} of a library")
    if names:
        log.warn(
            "With --preload, threads that the application starts while it is imported do not run in"
            " the workers, and what they lock may stay locked ({names}). Start them in a function"
            " that txsticky.after_fork gets, or leave --preload out.",
            names=", ".join(names),
        )
