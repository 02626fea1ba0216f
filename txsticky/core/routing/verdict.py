"""What a worker's policy says about a request: keep its connection, give it away, give it back."""

from __future__ import annotations

from typing import Final

import attrs

from ..how import How

#: The place of the primary's own mailbox, the front desk; ids of workers begin at 1.
FRONT_DESK: Final = 0


@attrs.frozen
class Keep:
    """
    The request is served where its connection is.

    :ivar how: why.
    """

    how: How


@attrs.frozen
class Give:
    """
    The request belongs to another worker, whose mailbox is known.

    :ivar worker: the id of that worker.
    :ivar how: why.
    """

    worker: int
    how: How


@attrs.frozen
class GiveBack:
    """
    The request is the primary's to place.

    :ivar how: why.
    """

    how: How


Verdict = Keep | Give | GiveBack

#: One value serves all requests that are kept, or given back, for the same reason.
KEEP: Final = {how: Keep(how) for how in How}
GIVE_BACK: Final = {how: GiveBack(how) for how in How}


def place_of(verdict: Verdict, here: int) -> int:
    """
    Return the worker that is to serve a request, or `FRONT_DESK`.

    :param here: the id of the worker whose policy gave the verdict.
    """
    match verdict:
        case Keep():
            return here
        case Give(worker):
            return worker
        case GiveBack():
            return FRONT_DESK
