"""The trial: whether the program that would take over starts, seen in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.logger import Logger

from ...config import Config
from ...core.lifecycle.states import how_it_ended
from ...errors import ListenError, TxstickyError, UpgradeError
from ...system.system import System
from ...system.trust import Identity, own_command, own_environment
from ..endpoints import listen_on
from ..preflight import check
from .packing import FORM, KNOWN_FORMS
from .start import places

log = Logger()


#: Says that the program is only to show that it starts.
TRIAL = "TXSTICKY_TRIAL"

#: Names what the running program listens on, as JSON: a list of (`--listen`, port or path).
HELD = "TXSTICKY_HELD"


#: What a trial ends with if the program starts: no code that a program ends with by itself.
PASSED = 117


#: Seconds that a trial may take.
TRIAL_TIME = 30.0


def is_trial(environ: Mapping[str, str]) -> bool:
    """Whether this process is only to show that the program starts."""
    return TRIAL in environ


def check_form(environ: Mapping[str, str]) -> None:
    """
    See whether the running program, whose trial this is, would hand over what this one knows.

    :raises UpgradeError: it would not.
    """
    if environ[TRIAL] not in map(str, KNOWN_FORMS):
        raise UpgradeError(found=environ[TRIAL], known=FORM)


def check_endpoints(config: Config, environ: Mapping[str, str], reactor: Any) -> None:
    """
    Listen for a moment where the running program does not, and this one would.

    What the running program gives up is free by then, so that it may be named in another way.

    :param config: names the endpoints.
    :param environ: names those of the running program; one of an older version does not.
    :param reactor: opens them.
    :raises ListenError: an endpoint cannot be listened on.
    """
    if HELD not in environ:
        return
    held = json.loads(environ[HELD])
    kept = places([listen for listen, _ in held], config.listen)
    given_up = [place for number, (_, place) in enumerate(held) if number not in kept]
    for number, listen in enumerate(config.listen):
        # What a service manager passes is not passed to a trial.
        if number in kept.values() or listen.startswith("systemd:"):
            continue
        try:
            port = listen_on(reactor, listen, config.backlog)
        except ListenError as error:
            if error.fields.get("place") not in given_up:
                raise
        else:
            port.connectionLost(None)


def rehearse(config: Config, environ: Mapping[str, str], reactor: Any) -> int:
    """
    Check, without doing so, that this program can take over from the one that runs.

    :param config: the configuration.
    :param environ: what the running program tells (`Trial`).
    :param reactor: opens endpoints, for a moment.
    :returns: the exit code.
    """
    try:
        check_form(environ)
        check(config)
        check_endpoints(config, environ, reactor)
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    return PASSED


class Trial:
    """
    The program that would take over, started in a process of its own, to see whether it starts.

    :param done: called with what is wrong with it; with nothing if it can take over.
    :param workers_identity: the workers' user if it is another than this process's, whose code is
        not to be run.
    :param held: what the running program listens on (`check_endpoints`).
    :raises OSError: the process cannot be started.
    """

    def __init__(
        self,
        system: System,
        done: Callable[[str], None],
        workers_identity: Identity | None = None,
        held: Sequence[tuple[str, int | str]] = (),
    ) -> None:
        self._done = done
        self._problem = ""
        self._process = system.spawn(
            own_command(workers_identity),
            (),
            {
                **own_environment(os.environ, workers_identity),
                TRIAL: str(FORM),
                HELD: json.dumps(held),
            },
            lambda line: log.warn("The new program says: {line}", line=line),
            self._exited,
        )
        self._time = system.reactor.callLater(TRIAL_TIME, self._end, "it takes too long to start")

    def cancel(self) -> None:
        """End the trial, which is not wanted any more."""
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
