"""What a worker says to the primary."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import attrs

from ...errors import WireError
from .frames import Bare, Fields, Key, Published, Topic, dump, language, load, made_of, shallow


@attrs.frozen
class Ready(Fields):
    """
    The application is loaded and started.

    :param interface: what the application turned out to be.
    :param http: whether it speaks HTTP.
    :param sources: with ``--reload``, the files that were loaded.
    :param moves: whether the worker takes WebSockets that move.
    :param appointable: whether the worker understands `Lead`; one of version 0.1.0 does not, and
        it is not said to a primary that appoints none.
    :param told: whether the worker understands `Outage`, `Gap` and `BoundAll`.
    """

    KIND: ClassVar = 2
    interface: str
    http: bool
    sources: list[str] = attrs.field(factory=list)
    moves: bool = False
    protocol: int = 1
    appointable: bool = False
    told: bool = False


@attrs.frozen
class Failed(Fields):
    """The application does not load or start."""

    KIND: ClassVar = 3
    reason: str


@attrs.frozen(kw_only=True)
class ListeningLoad:
    """
    What a worker that accepts connections itself has done so far.

    :param accepted: connections accepted.
    :param waiting: connections whose first request has not arrived.
    :param routes: requests routed, by `How` in its order.
    :param refusals: pairs of status and count.
    """

    accepted: int = 0
    waiting: int = 0
    routes: list[int] = attrs.field(factory=list)
    refusals: list[Any] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Load:
    """
    What a worker does and has done; also its heartbeat.

    :param live: connections that it holds.
    :param taken: hand-offs that it took out of its mailbox and that the pool had reserved.
    :param lag: seconds by which its event loop was late.
    :param requests: requests served.
    :param adopted: connections that it got.
    :param given: connections that it gave away.
    :param moved: WebSockets that have moved to it.
    :param short: whether it takes nothing for want of descriptors.
    :param listening: what it did on its own sockets, if it has any.
    """

    KIND: ClassVar = 4
    live: int = 0
    taken: int = 0
    lag: float = 0.0
    requests: int = 0
    adopted: int = 0
    given: int = 0
    moved: int = 0
    short: bool = False
    listening: ListeningLoad | None = None

    def body(self) -> bytes:
        """
        Encode the fields; `listening` is named ``entrance`` (`Frame.body`).

        A primary of version 0.1.0 looks for `short` in there.
        """
        fields = shallow(self)
        listening = fields.pop("listening")
        for name in ("short", "moved"):
            if not fields[name]:
                del fields[name]
        if listening is not None:
            fields["entrance"] = {**shallow(listening), "short": self.short}
        return dump(fields)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode the fields (`Frame.of`)."""
        fields = load(body)
        listening = fields.get("entrance")
        if isinstance(listening, dict):
            fields["listening"] = made_of(ListeningLoad, listening)
        made: Self = made_of(cls, fields)
        return made


@attrs.frozen
class Beat(Bare):
    """A sign of life: all is as the last `Load` has it, but for a lag that is none (`LAG_FREE`)."""

    KIND: ClassVar = 41


@attrs.frozen
class Bind(Key):
    """A key of its application belongs to the worker; it waits for `Confirmed`."""

    KIND: ClassVar = 6


@attrs.frozen
class Free(Key):
    """A key belongs to no worker any more."""

    KIND: ClassVar = 8


@attrs.frozen
class Used:
    """
    Keys that are bound to a worker were asked for in this one (`Boot.takes_used`).

    :param keys: none is empty.
    """

    KIND: ClassVar = 40
    keys: list[bytes]

    def body(self) -> bytes:
        """Encode each key behind its length in two bytes (`Frame.body`)."""
        return b"".join(len(key).to_bytes(2, "big") + key for key in self.keys)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode the keys (`Frame.of`)."""
        keys, at = [], 0
        while at < len(body):
            end = at + 2 + int.from_bytes(body[at : at + 2], "big")
            if end > len(body):
                raise WireError(why=f"a key that was used is cut off: {body[at : at + 40]!r}")
            keys.append(body[at + 2 : end])
            at = end
        return cls(keys)


@attrs.frozen
class Withdraw(Bare):
    """Nothing is to be routed to the worker any more; it waits for `Withdrawn`."""

    KIND: ClassVar = 10


@attrs.frozen
class Publish(Published):
    """A message for every worker that listens to its topic."""

    KIND: ClassVar = 13


@attrs.frozen
class Subscribe(Topic):
    """The worker listens to a topic."""

    KIND: ClassVar = 14


@attrs.frozen
class Follow(Fields):
    """
    The worker listens to a topic, behind what another worker was given of it.

    It waits for `CaughtUp`.

    :param ticket: the worker's number for the subscription.
    :param source: the id of the other worker.
    :param given: how many messages of all topics that one was given since its drain began.
    """

    KIND: ClassVar = 50
    topic: str
    ticket: int
    source: int
    given: int


@attrs.frozen
class Unsubscribe(Topic):
    """The worker listens to a topic no longer."""

    KIND: ClassVar = 15


@attrs.frozen
class Replace(Bare):
    """The worker has served its share and wants a successor."""

    KIND: ClassVar = 17


@attrs.frozen
class Reload(Bare):
    """The application asks for a rolling reload."""

    KIND: ClassVar = 51


@attrs.frozen
class WantLog(Bare):
    """The worker wants the access log anew, which the primary has opened."""

    KIND: ClassVar = 12


@attrs.frozen
class WantPeer(Fields):
    """
    The worker wants the sending end of another worker's mailbox, to give it connections.

    :param worker: the id of the other worker.
    """

    KIND: ClassVar = 42
    worker: int


@attrs.frozen
class Deaf(Bare):
    """The worker's mailbox has ended: it takes nothing any more, and leaves."""

    KIND: ClassVar = 20


@attrs.frozen
class Resign(Fields):
    """
    The worker has ended what it did as the leader.

    :param term: the appointment that it gives back.
    """

    KIND: ClassVar = 31
    term: int


#: All that a worker says.
FROM_WORKER: Final = language(
    Ready,
    Failed,
    Load,
    Beat,
    Bind,
    Free,
    Withdraw,
    WantLog,
    WantPeer,
    Publish,
    Subscribe,
    Follow,
    Unsubscribe,
    Replace,
    Reload,
    Deaf,
    Used,
    Resign,
)
