"""
How a worker process begins: ``python -m txsticky.worker.process N``.

N is the descriptor of its channel. What follows it is room for the title of the process. One that
is forked from a template begins with `run`, with what the template has prepared.

The order matters.  The first frame says which interface is wanted, that decides the reactor, and
only then may the application be imported, for it may import a reactor itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import attrs
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from zope.interface import provider

from ..api import release
from ..config import DEMO, Config
from ..core.lifecycle.timing import killed
from ..core.messages.frames import PROTOCOL, Frame, FrameReader, encode
from ..core.messages.from_primary import FROM_PRIMARY, Boot
from ..core.messages.from_worker import Failed
from ..core.routing.forwarded import Trusted
from ..errors import ProtocolMismatch, TxstickyError, WireError
from ..serve.asgi.engine import WrongReactor, install_asyncio_reactor
from ..serve.asgi.pylogging import bridge
from ..serve.loading import called
from ..serve.loading import load as import_app
from ..system.descriptors import own, raise_file_limit
from ..system.logs.broken_wait import BrokenWait
from ..system.logs.config_file import apply_log_config
from ..system.logs.lines import at_level, worker_line
from ..system.logs.shared import HandedLog
from ..system.startup import flush_streams
from ..system.system import System
from ..system.this_process import FOR_ALL, end_after_parent, heed, nothing, set_title

log = Logger()

#: What follows the interpreter on a worker's command line: the channel, and room for the title of
#: the process, come next. The working directory is put on the path when the application is loaded.
COMMAND = ("-P", "-m", "txsticky.worker.process")
TITLE_ROOM = " " * 16
#: The argument that follows those of a first start: where a process that is executed anew finds
#: what it was told (`begin_anew`).
ANEW = 3


@attrs.frozen(kw_only=True)
class Preparation:
    """
    What a worker has already when it begins: a template's, or nothing.

    :param logging: whether the log is begun.
    :param certificates: what clients over TLS are shown.
    :param app: the application, imported.
    """

    logging: bool = False
    certificates: Any = None
    app: Any = None


def main(arguments: list[str]) -> NoReturn:
    """Run a worker that is an interpreter of its own."""
    channel = socket.socket(fileno=own(int(arguments[1])))
    heed()
    run(channel, lambda: read_boot(arguments, channel), Preparation())


def run(channel: socket.socket, told: Callable[[], Boot], preparation: Preparation) -> NoReturn:
    """
    Run a worker. The exit code is 3 if the application does not load.

    :param channel: the worker's end of its channel.
    :param told: waits for the first frame.
    :param preparation: what is not to be done any more.
    """
    try:
        boot = told()
    except TxstickyError as error:
        channel.sendall(encode(Failed(str(error))))
        sys.exit(3)
    for descriptor in inherited(boot):
        own(descriptor)
    os.environ["TXSTICKY_WORKER"] = str(boot.slot)
    set_title(f"txsticky: worker {boot.slot}")
    config = Config.from_json(boot.config)
    if not preparation.logging:
        begin_logging(config.log_level)
    raise_file_limit()
    try:
        certificates = preparation.certificates or load_tls(config, boot.files)
        end_after_parent(killed(config.graceful_timeout))
        handed = HandedLog(boot.access_log) if boot.access_log >= 0 else None
        serving = load(config, boot.slot, handed, preparation.app)
        called(config.app, release)
    except WrongReactor:
        begin_anew(boot, channel.fileno())
    except TxstickyError as error:
        channel.sendall(encode(Failed(str(error))))
        sys.exit(3)
    from twisted.internet import reactor

    from .worker import Worker

    worker = Worker(boot, config, channel, System(reactor), serving, handed, certificates)
    reactor.callWhenRunning(handle_signals, worker, reactor)
    reactor.callWhenRunning(worker.start)
    reactor.run()
    serving.finish()
    flush_streams()
    sys.exit(worker.end.status)


def inherited(boot: Boot) -> list[int]:
    """The descriptors, beside the channel, that the first frame names. None is to go further."""
    listeners = [descriptor for _, descriptor in boot.listeners]
    log = [boot.access_log] if boot.access_log >= 0 else []
    return [boot.mailbox, boot.front_desk, *listeners, *log]


def begin_anew(boot: Boot, channel: int) -> NoReturn:
    """
    Execute this process anew, with what it was told.

    Its application turned out to be ASGI and imports Twisted's reactor: one that is installed
    cannot be exchanged for the asyncio one.

    :param channel: the descriptor of its channel.
    """
    log.info(
        "The application is ASGI and imports Twisted's reactor: it is loaded once more, with the"
        " asyncio one. --interface=asgi saves that."
    )
    config = {**boot.config, "interface": "asgi"}
    told = open(os.memfd_create("txsticky"), "w+b")  # noqa: SIM115 - it lasts until the execution
    told.write(encode(attrs.evolve(boot, config=config)))
    told.seek(0)
    flush_streams()
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_ALL)
    for descriptor in (told.fileno(), channel, *inherited(boot)):
        os.set_inheritable(descriptor, True)
    os.execv(sys.executable, [*sys.orig_argv, str(told.fileno())])


def read_boot(arguments: list[str], channel: socket.socket) -> Boot:
    """Wait for the first frame. Nothing follows it before this worker has said READY."""
    frames = FrameReader(FROM_PRIMARY, 1 << 22)
    if len(arguments) > ANEW:
        with open(int(arguments[ANEW]), "rb") as told:
            return _boot_in(frames.feed(told.read()))
    while True:
        data = channel.recv(65536)
        if not data:
            sys.exit(0)  # the primary has gone meanwhile
        found = list(frames.feed(data))
        if found:
            return _boot_in(found)


def _boot_in(frames: Iterable[Frame]) -> Boot:
    """
    Return the first frame, if this version understands the primary that sent it.

    :raises WireError: it is another frame, or of a primary that this version does not understand.
    """
    for frame in frames:
        if isinstance(frame, Boot) and frame.protocol == PROTOCOL:
            return frame
        if isinstance(frame, Boot):
            raise ProtocolMismatch(theirs=frame.protocol, ours=PROTOCOL)
    raise WireError(why="the first control frame is none that begins a worker")


def load_tls(config: Config, files: Mapping[str, str] | None = None, shared: bool = False) -> Any:
    """
    Read the certificates as they are now, if there are to be any.

    :param files: those that the primary has read (`tls.certificates.read_files`).
    :param shared: whether workers will share them.
    """
    if not config.tls:
        return None
    from ..tls.certificates import load_certificates

    return load_certificates(config.tls_cert, config.tls_key, files or {}, shared)


def load_app(config: Config) -> Any:
    """
    Configure `logging` as the operator asks, and import the application.

    :raises TxstickyError: the application does not load, or `logging` cannot be configured.
    """
    if config.log_config is not None:
        apply_log_config(config.log_config)
    return import_app(config.app, config.factory or config.app == DEMO)


def load(config: Config, slot: int, handed_log: HandedLog | None = None, app: Any = None) -> Any:
    """
    Install the reactor that the interface wants, import the application, wrap it.

    :param app: the application, if it is imported.
    :raises TxstickyError: as `load_app`.
    """
    if config.interface == "asgi":
        install_asyncio_reactor()
    from ..serve import ServeSettings, serving_for

    if app is None:
        app = load_app(config)
    settings = ServeSettings(
        access_log=config.access_log,
        handed_log=handed_log,
        keep_alive=config.keep_alive,
        trusted=Trusted.parse(config.forwarded_allow_ips),
        root_path=config.root_path,
        stall_timeout=config.stall_timeout,
        threads=config.threads,
        response_buffer=config.response_buffer,
        slot=slot,
        head_limit=config.head_limit,
    )
    return serving_for(app, config.interface, settings, target=config.app)


def handle_signals(worker: Any, reactor: Any) -> None:
    """
    Handle the signals that a worker may get.

    TERM, sent to a worker by hand, has it replaced; QUIT has it leave without waiting for requests;
    USR1 reopens the logs, unless the application has taken that signal for itself. The reactor's
    own handlers are replaced.
    """
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.report.retire))
    signal.signal(signal.SIGQUIT, lambda *_: reactor.callFromThread(worker.quit))
    if signal.getsignal(signal.SIGUSR1) is nothing:
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(worker.reopen_logs))


def begin_logging(level: str, line: Callable[[LogEvent], str] = worker_line) -> None:
    """
    Log to standard error, a line an event: the primary adds the time and the worker's name.

    :param level: one of `config.LOG_LEVELS`; it holds for Python's `logging` as well.
    :param line: makes the line.
    """

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        sys.stderr.write(line(event) + "\n")

    observers = [at_level(write, level), BrokenWait()]
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    bridge(level)


if __name__ == "__main__":
    main(sys.argv)
