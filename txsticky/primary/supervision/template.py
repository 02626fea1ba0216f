"""The primary's side of one template: its process, and the socket where it is asked for workers."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ...core.messages.forks import (
    FORK_LIMIT,
    FROM_TEMPLATE,
    MOST_DESCRIPTORS,
    Fork,
    Forked,
    Prepare,
    Prepared,
    Unforked,
    Unprepared,
)
from ...core.messages.frames import PROTOCOL, Frame, FrameReader, encode
from ...errors import WireError
from ...system.descriptors import own
from ...system.process import (
    REAP_EVERY,
    Process,
    adopting,
    is_child,
    is_stopped,
    reap_strays,
)
from ...system.system import System
from ...system.trust import Identity
from ..upgrade.packing import Descriptors
from .output import log_line

#: Seconds that a fork may take. The primary waits for it, as it waits for the start of any process:
#: some milliseconds, but more where many processes wait for a processor.
FORK_TIME: Final = 3.0
#: How often it looks meanwhile whether the template was stopped.
FORK_LOOKS: Final = 30
#: The kernel's name for a template, and for what it has forked and has no name yet (proc(5), comm).
STRAY: Final = "txsticky: templ"


class Template:
    """
    One template, seen from the primary.

    :param system: the operating system.
    :param generation: of the workers that are forked from it.
    :param changed: called when it has got ready, and when its process has ended.
    :param awaited: whether workers wait until it is ready, or has ended.
    :ivar ready: whether workers can be forked from it.
    :ivar unprepared: whether it ended because the application cannot be imported before the fork.
    :ivar alive: whether its process has not ended.
    :ivar wanted: whether it is to go on.
    :ivar preloaded: whether it has imported the application.
    :ivar status: how its process has ended.
    """

    process: Process
    status: int

    def __init__(
        self,
        system: System,
        generation: int,
        changed: Callable[[Template], object],
        awaited: bool = False,
    ) -> None:
        self._system = system
        self._changed = changed
        self._socket: socket.socket | None = None
        self.generation = generation
        self.awaited = awaited
        self.preloaded = self.ready = self.unprepared = False
        self.alive = self.wanted = True

    # ------------------------------------------------------------------------------ start

    def start(self, prepare: Prepare, identity: Identity | None) -> None:
        """
        Start the process.

        :raises OSError: it cannot be started; nothing of it is left then.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = os.memfd_create("txsticky")
        try:
            with open(told, "wb", closefd=False) as file:
                file.write(encode(prepare))
            numbers = [theirs.fileno(), told]
            self.process = self._system.spawn(
                ["-P", "-m", "txsticky.template.process", *map(str, numbers), " " * 16],
                numbers,
                {},
                self._said,
                self._exited,
                identity,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(told)
        self._attach(ours)

    def _attach(self, ours: socket.socket) -> None:
        self._socket = ours
        ours.setblocking(False)
        if not self.ready:
            self._system.reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor that the reactor watches; -1 if it is closed."""
        return self._socket.fileno() if self._socket is not None else -1

    def logPrefix(self) -> str:
        """A name for the log."""
        return "template"

    def doRead(self) -> None:
        """Take what the template says: that it is ready, or not to be got ready; or see it end."""
        self._system.reactor.removeReader(self)
        try:
            assert self._socket is not None
            frame = _heard(self._socket)
        except (OSError, WireError):
            self._kill()  # most often it has ended already; that is told
            return
        if isinstance(frame, Prepared) and frame.protocol == PROTOCOL:
            self.ready, self.preloaded = True, frame.preloaded
            self._changed(self)
        else:
            self.unprepared = isinstance(frame, Unprepared)
            self._kill()

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping."""

    def _said(self, line: str) -> None:
        log_line("template", line, generation=self.generation)

    def _exited(self, status: int) -> None:
        self._close()
        self.alive = False
        self.status = status
        self._changed(self)

    # ------------------------------------------------------------------------------ forks

    def fork(
        self,
        descriptors: Sequence[int],
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> Process:
        """
        Have a worker forked, with these descriptors; the first is its channel.

        :raises OSError: there is none. If the template is to blame, it is ended.
        """
        if is_stopped(self.process.pid):
            self._kill()
            raise OSError("it is stopped")
        reading, writing = os.pipe()
        try:
            pid = self._ask([writing, *descriptors])
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return self._system.watch(pid, reading, said, exited)

    def _ask(self, descriptors: list[int]) -> int:
        """Ask for a worker that is a child of this process; returns its pid."""
        if len(descriptors) > MOST_DESCRIPTORS:
            raise OSError("there are too many listening sockets")
        folder = None if self.preloaded else self._system.folder_there()
        fork = Fork(primary=os.getpid(), numbers=descriptors[1:], folder=folder)
        assert self._socket is not None
        try:
            with adopting():
                socket.send_fds(self._socket, [encode(fork)], descriptors)
                answer = self._answer(self._socket)
        except (TimeoutError, ConnectionError, WireError) as error:
            self._kill()
            # What it had forked by then is of no use, and ends.
            self._system.reactor.callLater(REAP_EVERY, reap_strays, STRAY)
            raise OSError(f"it does not answer ({error})") from None
        match answer:
            case Forked(pid) if is_child(pid):
                return pid
            case Unforked(why):
                raise OSError(why)
        self._kill()
        raise OSError("its children do not become this process's")

    def _answer(self, ours: socket.socket) -> Frame:
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        for _ in range(FORK_LOOKS):
            if poll.poll(1000 * FORK_TIME / FORK_LOOKS):
                return _heard(ours)
            if is_stopped(self.process.pid):
                raise TimeoutError("it is stopped")
        raise TimeoutError(f"for {FORK_TIME:g} s")

    # -------------------------------------------------------------------------------- end

    def look(self) -> None:
        """End the template if it is stopped: it would be waited for in vain."""
        if self.alive and is_stopped(self.process.pid):
            self._kill()

    def end(self) -> None:
        """End the template, because it is not needed any more."""
        self.wanted = self.awaited = False
        self._kill()

    def _kill(self) -> None:
        self.ready = False
        self._close()
        self.process.send_signal(signal.SIGKILL)  # it holds nothing that needs an orderly end

    def _close(self) -> None:
        if self._socket is not None:
            self._system.reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # ---------------------------------------------------------------------------- upgrade

    def snapshot(self, descriptors: Descriptors) -> dict[str, Any]:
        """The template as JSON values, for `resume`."""
        return {
            "generation": self.generation,
            "awaited": self.awaited,
            "ready": self.ready,
            "preloaded": self.preloaded,
            "pid": self.process.pid,
            "output": descriptors.keep(self.process.output),
            "socket": descriptors.keep(self.fileno()),
            "wanted": self.wanted,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up a template of the program before."""
        self.ready, self.preloaded = state["ready"], state["preloaded"]
        self.wanted = state["wanted"]
        output = own(state["output"])
        if state["socket"] >= 0:
            self._attach(socket.socket(fileno=own(state["socket"])))
        self.process = self._system.watch(state["pid"], output, self._said, self._exited)


def _heard(ours: socket.socket) -> Frame:
    """
    Take what a template has said.

    :raises OSError: there is nothing.
    :raises WireError: it is no frame.
    """
    message = ours.recv(FORK_LIMIT)
    if not message:
        raise ConnectionError("it has ended")
    (frame,) = FrameReader(FROM_TEMPLATE, FORK_LIMIT).feed(message)
    return frame
