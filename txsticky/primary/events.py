"""The events of a primary: what the cluster around it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs


def _nothing(*_: object) -> None:
    """Do nothing: an event that is not asked for."""


@attrs.frozen(kw_only=True)
class Events:
    """
    What a primary tells.

    :param ready: called when the first start is over, and connections are routed.
    :param reloading: called with True when a rolling reload begins, with False when it is over.
    :param ended: called with (exit code, reason) when no worker is left and none will come.
    :param sources: called with the files that a worker has loaded, with ``--reload``.
    """

    ready: Callable[[], object] = _nothing
    reloading: Callable[[bool], object] = _nothing
    ended: Callable[[int, str], object] = _nothing
    sources: Callable[[Iterable[str]], object] = _nothing
