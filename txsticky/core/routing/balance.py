"""
The balancers choose workers for connections that no key pins. The names are HAProxy's.

Each spreads a herd evenly as long as the caller reserves every choice in the pool
(`Pool.reserve`) before it makes the next: 200 connections at once over 4 equal workers are 50
each, within a tenth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from .address_hash import constant, mixed
from .pool import Member


class Chance(Protocol):
    """A source of chance; `random.Random` is one."""

    def random(self) -> float:
        """A number from 0 up to, but not including, 1."""

    def shuffle(self, x: list[Any]) -> None:
        """Put a list in any order, in place."""


class Balancer(Protocol):
    """A way to choose."""

    def choose(self, members: Sequence[Member], chance: Chance) -> Member:
        """
        Choose a worker.

        :param members: at least one; `Pool.candidates`, whose tuple stays the same object until
            it changes.
        :param chance: where numbers come from that no client can foresee.
        """


class LeastConn:
    """
    The least loaded worker; equally loaded ones take turns (HAProxy's ``leastconn``).

    A worker that has just begun is the least loaded for a while. It does not attract a herd,
    because each choice is load at once.
    """

    def __init__(self) -> None:
        self._after = 0

    def choose(self, members: Sequence[Member], chance: Chance) -> Member:
        """The least loaded worker; the search begins behind the last choice: ties rotate."""
        count = len(members)
        best = index = self._after % count
        least = members[index].load
        for _ in range(count - 1):
            index += 1
            if index == count:
                index = 0
            load = members[index].load
            if load < least:
                least, best = load, index
        self._after = best + 1
        return members[best]


class RoundRobin:
    """One worker after the other, whatever their load (HAProxy's ``roundrobin``)."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, members: Sequence[Member], chance: Chance) -> Member:
        """The next worker."""
        self._turn = (self._turn + 1) % len(members)
        return members[self._turn]


class ShuffledRounds:
    """
    ``random``: chance, but even in the short run.

    Each worker gets one connection in every round, and chance shuffles the rounds. Independent
    draws would give 200 connections over 4 workers a standard deviation of 6 around 50; here no
    worker is ever more than one ahead, and still no client can tell which worker is next, nor do
    several primaries fall into step.
    """

    def __init__(self) -> None:
        self._members: Sequence[Member] = ()
        self._round: list[Member] = []

    def choose(self, members: Sequence[Member], chance: Chance) -> Member:
        """The next worker of this round."""
        if members is not self._members:
            self._members = members
            self._round = []
        if not self._round:
            self._round = list(members)
            chance.shuffle(self._round)
        return self._round.pop()


class TwoChoices:
    """
    ``random2``: the less loaded of two different workers drawn at random (HAProxy's ``random(2)``).

    The power of two choices keeps the fullest worker within a few connections of the mean
    (Mitzenmacher, 2001), and unlike the least loaded of all it draws no herd to one worker when
    the loads are out of date.
    """

    def choose(self, members: Sequence[Member], chance: Chance) -> Member:
        """The less loaded of two workers; the first drawn if they are equal."""
        count = len(members)
        if count == 1:
            return members[0]
        first = int(chance.random() * count)
        second = int(chance.random() * (count - 1))
        second += second >= first
        one, other = members[first], members[second]
        return other if other.load < one.load else one


BALANCERS: Final[dict[str, type[Balancer]]] = {
    "leastconn": LeastConn,
    "roundrobin": RoundRobin,
    "random": ShuffledRounds,
    "random2": TwoChoices,
}


def balancer(name: str) -> Balancer:
    """
    Make a balancer.

    :raises ValueError: there is no balancer of that name.
    """
    try:
        return BALANCERS[name]()
    except KeyError:
        raise ValueError(f"{name!r} is no balancer; there are {', '.join(BALANCERS)}.") from None


def rendezvous(key: bytes, members: Sequence[Member]) -> Member:
    """
    Choose by the key alone: the same worker in every process, whatever the members' order.

    Highest random weight (Thaler and Ravishankar, 1998) over the *slots*: a worker that comes
    back in its slot gets its clients back, and when a slot is added or taken away only that
    slot's clients move.

    :param members: at least one.
    """
    hashed = hashlib.blake2b(key, digest_size=8)
    best = members[0]
    heaviest: tuple[bytes, int] = (b"", -1)
    for member in members:
        weight = hashed.copy()
        weight.update(b"/%d" % member.slot)
        # Two in one slot, old and new, weigh the same: the newer one wins.
        candidate = (weight.digest(), member.id)
        if candidate > heaviest:
            best, heaviest = member, candidate
    return best


def rendezvous_of_address(word: int, members: Sequence[Member]) -> Member:
    """
    Choose by the client's address alone, by the hash that the kernel can compute as well.

    It holds for it what holds for `rendezvous`.

    :param word: of the address (`address_hash.address_word`).
    :param members: at least one.
    """
    return max(members, key=lambda member: (mixed(word ^ constant(member.slot)), member.id))
