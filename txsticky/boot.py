"""
How a worker process begins: ``python -m txsticky.boot N``, N being the descriptor of its channel.

The order matters.  The first frame says which interface is wanted, that decides the reactor, and
only then may the application be imported, for it may import a reactor itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from zope.interface import provider

from .config import DEMO, Config
from .core.forwarded import Trusted
from .core.lifecycle import GRACE
from .core.wire import FrameReader, Kind, decode_json, encode_json
from .errors import TxstickyError
from .logconfig import apply_log_config
from .logs import at_level, worker_line
from .serve.engine import WrongReactor, install_asyncio_reactor
from .serve.pylogging import bridge
from .system import (
    become,
    end_after_parent,
    ignore_terminal_signals,
    raise_file_limit,
    set_title,
)

log = Logger()

#: The argument that follows those of a first start: where a process that is executed anew finds
#: what it was told (`begin_anew`).
ANEW = 3


def main(arguments: list[str]) -> NoReturn:
    """Run a worker. The exit code is 3 if the application does not load."""
    channel = socket.socket(fileno=int(arguments[1]))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ignore_terminal_signals()
    boot = read_boot(arguments, channel)
    os.environ["TXSTICKY_WORKER"] = str(boot["slot"])
    set_title(f"txsticky: worker {boot['slot']}")
    config = Config.from_json(boot["config"])
    begin_logging(config.log_level)
    raise_file_limit()
    try:
        # The keys may be root's alone.
        certificates = load_tls(config)
        become(config.user, config.group)
        end_after_parent(config.graceful_timeout + GRACE)
        serving = load(config, boot["slot"])
    except WrongReactor:
        begin_anew(boot)
    except TxstickyError as error:
        channel.sendall(encode_json(Kind.FAILED, reason=str(error)))
        sys.exit(3)
    from twisted.internet import reactor

    from .worker import Worker, exit_status

    worker = Worker(boot, config, reactor, serving)
    if certificates is not None:
        from .door import SecureDoor

        worker.door = SecureDoor(worker, reactor, certificates)
    reactor.callWhenRunning(handle_signals, worker, reactor)
    reactor.callWhenRunning(worker.start, channel)
    reactor.run()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(exit_status.value)


def begin_anew(boot: dict[str, Any]) -> NoReturn:
    """
    Execute this process anew, with what it was told, for its application turned out to be ASGI and
    imports Twisted's reactor: one that is installed cannot be exchanged for the asyncio one.
    """
    log.info(
        "The application is ASGI and imports Twisted's reactor: it is loaded once more, with the"
        " asyncio one. --interface=asgi saves that."
    )
    config = {**boot["config"], "interface": "asgi", "user": None, "group": None}
    told = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts until this process is another program
    told.write(encode_json(Kind.BOOT, **{**boot, "config": config}))
    told.seek(0)
    os.set_inheritable(told.fileno(), True)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*sys.orig_argv, str(told.fileno())])


def read_boot(arguments: list[str], channel: socket.socket) -> dict[str, Any]:
    """Wait for the first frame. Nothing follows it before this worker has said READY."""
    frames = FrameReader(1 << 22)
    if len(arguments) > ANEW:
        with open(int(arguments[ANEW]), "rb") as told:
            return decode_json(frames.feed(told.read())[0][1])
    while True:
        data = channel.recv(65536)
        if not data:
            sys.exit(0)  # the primary has gone meanwhile
        for kind, body in frames.feed(data):
            if kind is Kind.BOOT:
                return decode_json(body)


def load_tls(config: Config) -> Any:
    """Read the certificates as they are now, if there are to be any."""
    if not config.tls:
        return None
    from .tls import load_certificates

    return load_certificates(config.tls_cert, config.tls_key)


def load(config: Config, slot: int) -> Any:
    """
    Install the reactor that the interface wants, import the application, wrap it.

    :raises TxstickyError: the application does not load, or `logging` cannot be configured.
    """
    if config.log_config is not None:
        apply_log_config(config.log_config)
    if config.interface == "asgi":
        install_asyncio_reactor()
    from .serve import ServeSettings, serving_for
    from .serve.loading import load as load_app

    app = load_app(config.app, config.factory or config.app == DEMO)
    settings = ServeSettings(
        access_log=config.access_log,
        keep_alive=config.keep_alive,
        trusted=Trusted.parse(config.forwarded_allow_ips),
        root_path=config.root_path,
        slot=slot,
    )
    return serving_for(app, config.interface, settings, target=config.app)


def handle_signals(worker: Any, reactor: Any) -> None:
    """
    TERM, sent to a worker by hand, has it replaced; QUIT is quick. The reactor's own handlers are
    replaced.
    """
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(worker.retire))
    signal.signal(signal.SIGQUIT, lambda *_: reactor.callFromThread(reactor.stop))
    ignore_terminal_signals()


def begin_logging(level: str, line: Callable[[LogEvent], str] = worker_line) -> None:
    """
    Log to standard error, a line an event: the primary adds the time and the worker's name.

    :param level: one of `config.LOG_LEVELS`; it holds for Python's `logging` as well.
    :param line: makes the line.
    """

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        sys.stderr.write(line(event) + "\n")

    globalLogBeginner.beginLoggingTo([at_level(write, level)], redirectStandardIO=False)
    bridge(level)


if __name__ == "__main__":
    main(sys.argv)
