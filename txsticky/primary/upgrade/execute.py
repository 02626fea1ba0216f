"""
The upgrade of the primary: it executes itself anew in place, and nobody notices.

The pid stays, and so do the listening sockets, the workers with their channels and mailboxes, and
the connections that are in the primary's hands.  Before anything is given up the new program has
to show that it starts, in a process of its own (`Trial`); if it does not, the old one goes on.

What the new program needs to know travels as JSON in a memory file, whose descriptor is named in
the environment; the other descriptors keep their numbers (execve(2) keeps what is not close-on-
exec).  Signals that come meanwhile are blocked, and delivered to the new program.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import Logger

from ...core.lifecycle.states import how_it_ended
from ...errors import UpgradeError
from ...intake.arrival import Arrival
from ...system.descriptors import own
from ...system.startup import flush_streams
from ...system.system import System
from ...system.this_process import FOR_ALL
from ...system.trust import Identity, own_command, own_environment
from ...system.unix_port import identity as file_identity
from ...system.unix_port import remove

log = Logger()

#: Names the memory file with the state.
STATE = "TXSTICKY_UPGRADE"
#: Says that the program is only to show that it starts.
TRIAL = "TXSTICKY_TRIAL"
#: The form of the state: a program does not take up what it does not understand.
FORM = 3
#: What a trial ends with if the program starts: no code that a program ends with by itself.
PASSED = 117
#: Seconds that a trial may take.
TRIAL_TIME = 30.0

_SIGNALS = FOR_ALL | {signal.SIGQUIT, signal.SIGTERM}


def pack(data: bytes) -> str:
    """Bytes as a JSON value."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """Undo `pack`."""
    return base64.b64decode(text)


# --------------------------------------------------------------------------------- trial


def is_trial(environ: Mapping[str, str]) -> bool:
    """Whether this process is only to show that the program starts."""
    return TRIAL in environ


def check_form(environ: Mapping[str, str]) -> None:
    """
    See whether the running program, whose trial this is, would hand over what this one knows.

    :raises UpgradeError: it would not.
    """
    if environ[TRIAL] != str(FORM):
        raise UpgradeError(found=environ[TRIAL], known=FORM)


class Trial:
    """
    The program that would take over, started in a process of its own, to see whether it starts.

    :param done: called with what is wrong with it; with nothing if it can take over.
    :param workers_identity: the workers' user if it is another than this process's, whose code is
        not to be run.
    :raises OSError: the process cannot be started.
    """

    def __init__(
        self,
        system: System,
        done: Callable[[str], None],
        workers_identity: Identity | None = None,
    ) -> None:
        self._done = done
        self._problem = ""
        self._process = system.spawn(
            own_command(workers_identity),
            (),
            {**own_environment(os.environ, workers_identity), TRIAL: str(FORM)},
            lambda line: log.warn("The new program says: {line}", line=line),
            self._exited,
        )
        self._time = system.reactor.callLater(TRIAL_TIME, self._end, "it takes too long to start")

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._done = lambda problem: None
        self._end("it was cancelled")

    def _end(self, problem: str) -> None:
        self._problem = problem
        self._process.send_signal(signal.SIGKILL)

    def _exited(self, status: int) -> None:
        if self._time.active():
            self._time.cancel()
        if not self._problem and status != PASSED:
            self._problem = f"it {how_it_ended(status)}"
        self._done(self._problem)


# ----------------------------------------------------------------------------- execution


def execute(
    state: dict[str, Any], descriptors: list[int], workers_identity: Identity | None = None
) -> None:
    """
    Become the new program.  Returns only if that fails.

    :param descriptors: what the state names, and the new program inherits.
    :param workers_identity: as for `Trial`.
    :raises OSError: the program cannot be executed; nothing has changed.
    """
    memory = os.memfd_create("txsticky")
    own = own_environment(os.environ, workers_identity)
    environ = {**os.environ, **own, STATE: str(memory)}
    # The workers get the whole of it.
    before_own = {name: os.environ[name] for name in own}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    inherited = [memory, *descriptors]
    try:
        with open(memory, "w", closefd=False) as file:
            whole = {**state, "form": FORM, "inherited": descriptors, "environ": before_own}
            json.dump(whole, file)
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        flush_streams()
        command = [sys.executable, *own_command(workers_identity)]
        os.execve(sys.executable, command, environ)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in inherited:
            with contextlib.suppress(OSError):  # it may be that for which the execution failed
                os.set_inheritable(descriptor, False)
        os.close(memory)


def inherited_state(environ: Any) -> dict[str, Any] | None:
    """
    The state that the program before left, if this one was executed in its place.

    The descriptors in it are not inherited any further from here on.

    :param environ: where it is named; the name is taken out, for the workers are not to see it.
        What the program was not to heed in its environment, and they are, comes back.
    """
    number = environ.pop(STATE, None)
    if number is None:
        return None
    memory = int(number)
    with open(memory, "rb") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    if state["form"] != FORM:
        raise UpgradeError(found=state["form"], known=FORM)
    for descriptor in state.get("inherited", ()):
        own(descriptor)
    environ.update(state.get("environ", {}))
    return state


def take_signals() -> None:
    """Have the signals delivered that came during the execution or the start."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


# ---------------------------------------------------------------------------- connections


def pack_arrival(arrival: Arrival) -> dict[str, Any]:
    """A connection in the primary's hands, as JSON values."""
    fields = attrs.asdict(arrival, filter=lambda field, _: field.name not in ("sock", "head"))
    return {**fields, "sock": arrival.sock.fileno(), "data": pack(arrival.data)}


def unpack_arrival(fields: dict[str, Any]) -> Arrival:
    """Undo `pack_arrival`. The head is looked for anew."""
    sock = socket.socket(fileno=own(fields["sock"]))
    return Arrival(
        **{
            **fields,
            "sock": sock,
            "data": unpack(fields["data"]),
            "peer": tuple(fields["peer"]),
            "host": tuple(fields["host"]),
        }
    )


# ------------------------------------------------------------------------------ listeners


class InheritedPort:
    """
    A listening socket that the program before had opened, in place of an `IListeningPort`.

    :param descriptor: the socket.
    """

    def __init__(self, descriptor: int) -> None:
        self._sock = socket.socket(fileno=own(descriptor))
        name = self._sock.getsockname()
        self._path = name if isinstance(name, str) else ""  # an abstract name is bytes
        self._file = file_identity(self._path)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def getHost(self) -> Any:
        """The address that is listened on."""
        name = self._sock.getsockname()
        if self._sock.family == socket.AF_UNIX:
            return UNIXAddress(name)
        return (IPv6Address if len(name) > 2 else IPv4Address)("TCP", *name)

    def stopListening(self) -> None:
        """Close; the file of a UNIX socket goes too, if it is still this socket's."""
        if self._sock.family == socket.AF_UNIX:
            remove(self._path, self._file)
        self._sock.close()
