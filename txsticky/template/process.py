"""
How a template runs: ``python -m txsticky.template.process SOCKET TOLD``.

SOCKET is where it is asked for workers, TOLD the memory file with the frame that says what it is to
have ready.  What follows is room for the title of the process, and of those that are forked.

The template has one thread, no reactor and no connection.  It ends when its primary does.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from typing import Any, Final, NoReturn

from ..config import Config
from ..core.messages.forks import (
    FORK_LIMIT,
    MOST_DESCRIPTORS,
    TO_TEMPLATE,
    Fork,
    Forked,
    Prepare,
    Prepared,
    Unforked,
    Unprepared,
)
from ..core.messages.frames import Frame, FrameReader, encode
from ..system.descriptors import own
from ..system.startup import flush_streams
from ..system.this_process import (
    FOR_ALL,
    end_with_parent,
    fork_orphan,
    heed,
    nothing,
    reseed,
    set_title,
)
from ..worker import process as worker
from .warm import Unfit, warm

#: Signals that mean something to workers and applications, and nothing to a template.
_NOT_HEEDED: Final = FOR_ALL | {signal.SIGTERM, signal.SIGQUIT}


def main(arguments: list[str]) -> None:
    """Run a template. In a worker that is forked from it, run that."""
    requests = socket.socket(fileno=own(int(arguments[1])))
    requests.setblocking(True)
    heed()
    end_with_parent()
    prepare = _read_told(int(arguments[2]))
    config = Config.from_json(prepare.config)
    set_title("txsticky: template")
    worker.begin_logging(config.log_level)
    try:
        preparation = warm(config, prepare)
    except Unfit:
        _say(requests, Unprepared())
        _end()
    _say(requests, Prepared(preloaded=prepare.preload))
    fork, descriptors = _serve(requests)
    _become_worker(fork, descriptors, preparation)


def _read_told(descriptor: int) -> Prepare:
    with open(descriptor, "rb") as told:
        told.seek(0)
        data = told.read()
    (prepare,) = FrameReader(TO_TEMPLATE, len(data)).feed(data)
    assert isinstance(prepare, Prepare)
    return prepare


def _say(requests: socket.socket, frame: Frame) -> None:
    """Tell the primary; if that has gone, end."""
    try:
        requests.send(encode(frame))
    except OSError:
        _end()


def _end() -> NoReturn:
    """End, without what the application wants done at the end of a worker."""
    flush_streams()
    os._exit(0)


# ------------------------------------------------------------------------- in the template


def _serve(requests: socket.socket) -> tuple[Fork, list[int]]:
    """
    Fork a worker whenever one is asked for.

    :returns: only in a worker: what was asked for, and the descriptors that came with it.
    """
    gc.collect()
    gc.freeze()  # else a collection in a worker would write to memory that all share
    signals = _leave_signals()
    while True:
        message, descriptors, flags = _receive(requests)
        if not message:
            _end()
        (fork,) = FrameReader(TO_TEMPLATE, FORK_LIMIT).feed(message)
        assert isinstance(fork, Fork)
        answer: Frame
        try:
            if flags & socket.MSG_CTRUNC:
                raise OSError("the template has no descriptors left")
            flush_streams()  # what is not written yet would be written by each worker
            pid = fork_orphan()
        except OSError as error:
            answer = Unforked(str(error))
        else:
            if not pid:
                requests.close()
                _take_signals(signals)
                return fork, descriptors
            answer = Forked(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        _say(requests, answer)


def _receive(requests: socket.socket) -> tuple[bytes, list[int], int]:
    """Wait for a message; without one, the primary has gone."""
    try:
        message, descriptors, flags, _ = socket.recv_fds(requests, FORK_LIMIT, MOST_DESCRIPTORS)
    except ConnectionError:
        return b"", [], 0
    # Not by MSG_CMSG_CLOEXEC: recv_fds does not pass flags on before Python 3.12.
    return message, [own(descriptor) for descriptor in descriptors], flags


def _leave_signals() -> dict[int, Any]:
    """
    Do nothing about signals that are for workers, or that the application handles.

    :returns: how they are handled; what is not handled by Python (None) stays as it is.
    """
    handled: dict[int, Any] = {
        number: signal.getsignal(number) for number in _NOT_HEEDED | {signal.SIGCHLD}
    }
    for number, handler in handled.items():
        if handler is not None:
            own_child = number == signal.SIGCHLD  # a handler may wait for the children of a fork
            signal.signal(number, signal.SIG_DFL if own_child else nothing)
            signal.siginterrupt(number, False)
    return handled


# ---------------------------------------------------------------------------- in a worker


def _take_signals(handled: dict[int, Any]) -> None:
    """Handle signals as before `_leave_signals`."""
    for number, handler in handled.items():
        if handler is not None:
            signal.signal(number, handler)
            signal.siginterrupt(number, False)


def _become_worker(fork: Fork, descriptors: list[int], preparation: worker.Preparation) -> NoReturn:
    """Go on as a worker that was started by itself would (`worker.process.main`)."""
    if os.getppid() != fork.primary:
        os._exit(1)  # it has gone meanwhile, or this system gives orphans to another process
    output, *others = descriptors
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    if fork.folder is not None and os.path.isdir(fork.folder):
        os.chdir(fork.folder)
    numbers = dict(zip(fork.numbers, others, strict=True))
    channel = socket.socket(fileno=others[0])
    command = [*worker.COMMAND, str(channel.fileno()), worker.TITLE_ROOM]
    sys.orig_argv[1:] = command
    sys.argv[:] = [worker.__file__, *command[-2:]]
    reseed()
    worker.run(channel, lambda: worker.read_boot(sys.argv, channel).moved(numbers), preparation)


if __name__ == "__main__":
    main(sys.argv)
