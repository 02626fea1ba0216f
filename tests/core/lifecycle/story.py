"""A fleet that a test plays: what it is told, and what it asks for."""

from __future__ import annotations

from typing import Any

from txsticky.core.lifecycle.fleet import Fleet
from txsticky.core.lifecycle.states import Effect, Say

DRAIN = 30.0
START = 60.0


class Story:
    """A fleet and a clock; every event returns what has to be brought about, without the log."""

    def __init__(self, workers: int) -> None:
        self.fleet = Fleet(workers, graceful_timeout=DRAIN, start_timeout=START)
        self.now = 1000.0
        self.said: list[Say] = []
        self.ticks = 0

    def __getattr__(self, event: str) -> Any:
        def happen(*arguments: object) -> list[Effect]:
            effects = getattr(self.fleet, event)(*arguments, self.now)
            self.said += [effect for effect in effects if isinstance(effect, Say)]
            return [effect for effect in effects if not isinstance(effect, Say)]

        return happen

    def after(self, seconds: float) -> list[Effect]:
        """Let time pass, with a tick whenever the fleet wants one."""
        end = self.now + seconds
        effects = []
        while (wake := self.fleet.wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            effects += self.tick()
            self.ticks += 1
            assert self.ticks < 1000, "what is due stays due"
        self.now = end
        return effects

    def serving(self) -> Story:
        """Start, with every worker ready."""
        for effect in self.start():
            self.ready(effect.id)
        return self

    def told(self) -> str:
        """The last sentence of the fleet."""
        return self.said[-1].text.format(**self.said[-1].fields)

    def levels(self) -> set[str]:
        """The levels of the fleet's sentences."""
        return {say.level for say in self.said}
