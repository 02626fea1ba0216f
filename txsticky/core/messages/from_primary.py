"""What the primary says to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import attrs

from ...errors import WireError
from .frames import Bare, Fields, Key, Published, language

#: What may stand between two keys; text has no line feed.
_SEPARATORS: Final = [b"\n", *(bytes((number,)) for number in range(256))]


@attrs.frozen(kw_only=True)
class Boot(Fields):
    """
    All that a worker has to know to begin.

    :param mailbox: the descriptor of its mailbox's reading end.
    :param front_desk: the descriptor of the primary's mailbox's sending end.
    :param listeners: the number of the ``--listen`` and the descriptor of each socket that the
        worker may accept on.
    :param config: the configuration, as `Config.to_json` has it.
    :param secret: what signs the tags, in hexadecimal.
    :param pool: the pool, as `Pool.view` has it.
    :param access_log: the descriptor of the access log, or -1.
    :param takes_used: whether the primary understands `Used`, and with it `Follow`, `Reload`,
        `Beat` and `WantPeer`.
    :param in_words: how addresses are hashed (`Router`); version 0.1.0 does not say it.
    :param files: the texts of files that the worker may not read, by their names.
    :param appoints: whether the primary says `Lead`; one of version 0.1.0 does not.
    """

    KIND: ClassVar = 1
    id: int
    slot: int
    generation: int
    mailbox: int
    front_desk: int
    listeners: list[Any] = attrs.field(factory=list)
    config: dict[str, Any]
    secret: str
    pool: Any
    table_limit: int
    table_ttl: float
    access_log: int = -1
    takes_used: bool = False
    in_words: bool = False
    files: dict[str, str] = attrs.field(factory=dict)
    protocol: int = 1
    appoints: bool = False

    def moved(self, numbers: Mapping[int, int]) -> Boot:
        """
        The frame for a worker whose descriptors have come under other numbers.

        :param numbers: the numbers there, by those here.
        """
        return attrs.evolve(
            self,
            mailbox=numbers[self.mailbox],
            front_desk=numbers[self.front_desk],
            listeners=[[listen, numbers[descriptor]] for listen, descriptor in self.listeners],
            access_log=numbers[self.access_log] if self.access_log >= 0 else -1,
        )


@attrs.frozen
class View(Fields):
    """
    The workers of the cluster, as `Pool.view` has them.

    :param anew: every binding follows; what the worker has of them is out of date.
    :param lame_duck: the cluster is told to stop, and serves on for a while.
    """

    KIND: ClassVar = 5
    pool: Any
    anew: bool = False
    lame_duck: bool = False


@attrs.frozen
class Bound:
    """
    A key belongs to a worker. Told again, it was used in another process.

    :param owner: the worker's id.
    """

    KIND: ClassVar = 6
    key: bytes
    owner: int

    def body(self) -> bytes:
        """Encode owner and key, a blank between (`Frame.body`)."""
        return b"%d %b" % (self.owner, self.key)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode key and owner (`Frame.of`)."""
        owner, _, key = body.partition(b" ")
        try:
            return cls(key, int(owner))
        except ValueError:
            raise WireError(why=f"a binding names no worker: {body[:40]!r}") from None


@attrs.frozen
class BoundAll:
    """
    Many keys belong to a worker; the one that was not used for longest comes first.

    :param owner: the worker's id.
    :param packed: a byte that is in none of the keys, and the keys with it between them.
    """

    KIND: ClassVar = 41
    owner: int
    packed: bytes

    @property
    def keys(self) -> list[bytes]:
        """The keys."""
        return self.packed[1:].split(self.packed[:1]) if self.packed else []

    def body(self) -> bytes:
        """Encode owner and keys, a blank between (`Frame.body`)."""
        return b"%d %b" % (self.owner, self.packed)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode owner and keys (`Frame.of`)."""
        owner, _, packed = body.partition(b" ")
        try:
            return cls(int(owner), packed)
        except ValueError:
            raise WireError(why=f"bindings name no worker: {body[:40]!r}") from None


def bound_all(keys: Sequence[bytes], owner: int) -> Sequence[Bound | BoundAll]:
    """
    Make the frames that say whose keys are: one, unless each byte is in some key.

    :param keys: one at least.
    """
    joined = b"".join(keys)
    for separator in _SEPARATORS:
        if separator not in joined:
            return (BoundAll(owner, separator + separator.join(keys)),)
    return [Bound(key, owner) for key in keys]


@attrs.frozen
class Confirmed(Bare):
    """Every worker knows the binding that was asked for first and not yet confirmed."""

    KIND: ClassVar = 7


@attrs.frozen
class Freed(Key):
    """A key belongs to no worker any more."""

    KIND: ClassVar = 8


@attrs.frozen
class BeginDrain(Fields):
    """
    The worker finishes what it holds, gives the rest away, and leaves.

    :param seconds: how long that may take.
    :param final: the whole cluster stops, so that nothing can be given away.
    """

    KIND: ClassVar = 9
    seconds: float
    final: bool


@attrs.frozen
class Withdrawn(Bare):
    """The worker gets nothing new any more: what is in its mailbox now is the last."""

    KIND: ClassVar = 11


@attrs.frozen
class Rotate(Bare):
    """The logs are to be opened anew."""

    KIND: ClassVar = 12


@attrs.frozen
class Message(Published):
    """A message of the bus, for a topic that the worker listens to."""

    KIND: ClassVar = 16


@attrs.frozen
class Lost(Fields):
    """
    Messages of a topic did not reach the worker, because it did not take them fast enough.

    :param count: how many.
    :param elsewhere: whether they did not leave another machine, and were never on their way here.
    """

    KIND: ClassVar = 18
    topic: str
    count: int
    elsewhere: bool = False


@attrs.frozen
class Missed:
    """
    A message that another worker had not been given (`Follow`).

    :param ticket: the worker's number for the subscription.
    """

    KIND: ClassVar = 50
    ticket: int
    message: bytes

    def body(self) -> bytes:
        """Encode number and message (`Frame.body`)."""
        return self.ticket.to_bytes(8, "big") + self.message

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode number and message (`Frame.of`)."""
        return cls(int.from_bytes(body[:8], "big"), body[8:])


@attrs.frozen
class CaughtUp(Fields):
    """
    From here on the subscription gets what is published (`Follow`).

    :param ticket: the worker's number for the subscription.
    :param lost: how many messages before those that came were not remembered, at most.
    """

    KIND: ClassVar = 51
    ticket: int
    lost: int = 0


@attrs.frozen
class Outage(Fields):
    """
    Whether messages leave this machine (`Ready.told`).

    :param since: the time since which they do not, in seconds since the epoch; 0: they do.
    """

    KIND: ClassVar = 52
    since: float


@attrs.frozen
class Gap(Fields):
    """
    Messages of other machines may be missing (`Ready.told`).

    :param since: from when, in seconds since the epoch.
    :param until: until when.
    """

    KIND: ClassVar = 53
    since: float
    until: float


@attrs.frozen
class Accept(Bare):
    """The worker accepts on its own sockets."""

    KIND: ClassVar = 19


@attrs.frozen
class Lead(Fields):
    """
    The worker leads, until the time that is told. It is sent to workers that can be appointed.

    :param term: which appointment it is.
    :param until: the end of the lease, in seconds of the monotonic clock.
    """

    KIND: ClassVar = 30
    term: int
    until: float


#: All that the primary says.
FROM_PRIMARY: Final = language(
    Boot,
    View,
    Bound,
    BoundAll,
    Confirmed,
    Freed,
    BeginDrain,
    Withdrawn,
    Rotate,
    Message,
    Lost,
    Missed,
    CaughtUp,
    Outage,
    Gap,
    Accept,
    Lead,
)
