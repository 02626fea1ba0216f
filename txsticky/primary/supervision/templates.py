"""
The templates: which one workers are forked from, and when there is none.

Each generation of workers has a template, which is started with the first of them.  They wait for
it.  The one before stays until the reload is over: if that has failed, it is the one to go on with.
A template that ends unasked is started again, but nothing waits for that: meanwhile, and wherever a
fork is not possible, a worker is an interpreter of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ...config import Config
from ...core.lifecycle.states import how_it_ended
from ...core.messages.forks import Prepare
from ...core.messages.frames import PROTOCOL
from ...system.process import Process
from ...system.system import System
from ..upgrade.packing import Descriptors
from .provision import Provision
from .template import Template

#: Set to 0, it keeps workers from being forked.
VARIABLE: Final = "TXSTICKY_TEMPLATE"
#: Seconds until a template that has ended is started again, and at most after several.
RETRY, RETRY_MOST = 1.0, 60.0
#: Seconds between two looks at a template that workers wait for.
LOOK_EVERY: Final = 1.0


def wants_template(environ: Mapping[str, str]) -> bool:
    """Whether the operator lets workers be forked."""
    return environ.get(VARIABLE) != "0"


class Templates:
    """
    All templates of a cluster; none if the system gives no orphans to this process.

    :param system: the operating system.
    :param config: what the cluster is to be.
    :param provision: what processes get that run as another user than this one.
    :param interface: tells what the application is, or `auto`.
    :param settled: called when workers that wait for a template may go on.
    :param log: gets the sentences.
    """

    def __init__(
        self,
        system: System,
        config: Config,
        provision: Provision,
        interface: Callable[[], str],
        settled: Callable[[], object],
        log: Logger,
    ) -> None:
        self._system = system
        self._config = config
        self._provision = provision
        self._interface = interface
        self._settled = settled
        self._log = log
        self._asked = self._abandoned = self._failures = 0
        self._again: IDelayedCall | None = None
        self._looks: IDelayedCall | None = None
        self._closed = not system.adopts
        self.all: list[Template] = []

    # ------------------------------------------------------------------ for the supervisor

    def settled(self, generation: int) -> bool:
        """Whether a worker of a generation can be started; if not, `settled` is called later."""
        if not self._closed and generation > self._asked:
            self._asked = generation
            self._failures = 0
            self._cancel()
            self._start(awaited=True, preload=self._config.preload)
        return not any(template.awaited for template in self.all)

    def fork(
        self,
        generation: int,
        descriptors: Sequence[int],
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> Process | None:
        """
        Have a worker forked.

        :param descriptors: what it gets; its channel is the first.
        :returns: its process; None if no template can do it.
        """
        oldest = generation if generation > self._abandoned else 0
        for template in reversed(self.all):
            if not template.ready:
                template.look()  # it may have been stopped before it got ready
            elif template.generation >= oldest:
                try:
                    process = template.fork(descriptors, said, exited)
                except OSError as error:
                    self._log.warn(
                        "The template has forked no worker: {error}. The worker is started alone.",
                        error=error,
                    )
                    return None
                self._failures = 0
                return process
        return None

    def reloaded(self, proven: bool) -> None:
        """
        End the templates that are not needed any more: a reload is over.

        :param proven: whether it has brought a worker that is ready.
        """
        before = [template for template in self.all if template.generation < self._asked]
        if proven:
            self._end(before)
        elif before:
            self._abandoned = self._asked
            self._end(template for template in self.all if template not in before)
            self._cancel()

    def close(self) -> None:
        """End all; workers are forked no more."""
        self._closed = True
        self._cancel()
        if self._looks is not None:
            self._looks.cancel()
            self._looks = None
        self._end(self.all)

    # ---------------------------------------------------------------------- one template

    def _start(self, awaited: bool, preload: bool) -> None:
        template = Template(self._system, self._asked, self._changed, awaited)
        prepare = Prepare(
            config=self._config.to_json(),
            interface=self._interface(),
            preload=preload,
            files=self._provision.files(),
        )
        try:
            template.start(prepare, self._provision.identity)
        except OSError as error:
            self._fail(f"The template cannot be started: {error}.")
            return
        self.all.append(template)
        self._look_later()

    def _changed(self, template: Template) -> None:
        """Go on with what waited for a template, which has got ready or has ended."""
        waited, template.awaited = template.awaited, False
        if not template.alive:
            self._ended(template, waited)
        if waited:
            self._settled()

    def _ended(self, template: Template, waited: bool) -> None:
        self.all.remove(template)
        if self._closed or not template.wanted:
            return
        if template.unprepared:
            if template.generation == self._asked:
                self._start(waited, preload=False)
            return
        how = how_it_ended(template.status)
        self._fail(f"The template {how} unexpectedly: until there is another, workers start alone.")

    def _fail(self, sentence: str) -> None:
        """Tell what is wrong, and have a template started after a pause."""
        self._log.error("{sentence}", sentence=sentence)
        self._failures += 1
        if self._again is None:
            pause = min(RETRY_MOST, RETRY * 2.0 ** (self._failures - 1))
            self._again = self._system.reactor.callLater(pause, self._restart)

    def _restart(self) -> None:
        self._again = None
        if not any(template.generation == self._asked for template in self.all):
            self._start(awaited=False, preload=self._config.preload)

    def _look(self) -> None:
        self._looks = None
        for template in self.all:
            if template.awaited:
                template.look()
        self._look_later()

    def _look_later(self) -> None:
        if self._looks is None and any(template.awaited for template in self.all):
            self._looks = self._system.reactor.callLater(LOOK_EVERY, self._look)

    def _end(self, templates: Iterable[Template]) -> None:
        for template in list(templates):
            template.end()

    def _cancel(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    # --------------------------------------------------------------------------- upgrade

    def snapshot(self, descriptors: Descriptors) -> dict[str, Any]:
        """The templates as JSON values, for `restore`."""
        return {
            "protocol": PROTOCOL,
            "asked": self._asked,
            "abandoned": self._abandoned,
            "all": [template.snapshot(descriptors) for template in self.all],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """
        Take up the templates of the program before.

        Those that this program cannot speak with are ended, and so are all if it wants none.
        """
        usable = state.get("protocol") == PROTOCOL and not self._closed
        if usable:
            self._asked, self._abandoned = state["asked"], state["abandoned"]
        for fields in state.get("all", ()):
            template = Template(self._system, fields["generation"], self._changed)
            template.awaited = fields["awaited"] and usable
            template.resume(fields)
            self.all.append(template)
            if not usable:
                template.end()
        self._look_later()
