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

import contextlib
import json
import os
import signal
import sys
from typing import Any

from twisted.logger import Logger

from ...errors import UpgradeError
from ...system.descriptors import own
from ...system.startup import flush_streams
from ...system.this_process import FOR_ALL
from ...system.trust import Identity, own_command, own_environment
from .packing import FORM, KNOWN_FORMS

log = Logger()

#: Names the memory file with the state.
STATE = "TXSTICKY_UPGRADE"

_SIGNALS = FOR_ALL | {signal.SIGQUIT, signal.SIGTERM}


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
    if state["form"] not in KNOWN_FORMS:
        raise UpgradeError(found=state["form"], known=FORM)
    for descriptor in state.get("inherited", ()):
        own(descriptor)
    environ.update(state.get("environ", {}))
    return state


def take_signals() -> None:
    """Have the signals delivered that came during the execution or the start."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
