"""
The bus between machines, over a stream of Redis (the extra ``txsticky[redis]``).

The primary of each machine holds two connections to Redis: one appends what the machine's workers
publish (XADD), the other reads what comes behind the entry that it has read last (XREAD). All
topics are in one stream, ``txsticky:stream``, which keeps so many entries at least; so all machines
see one order, and each of them reads everything.

While Redis cannot be reached messages wait in the primary, and are written afterwards; a reader
goes on where it stopped. It knows that it has missed nothing as long as the entry that it has read
last is still there: entries are removed from the oldest on, and a Redis that was started anew, or
is another one, does not have it. So a reader that has read nothing yet writes an entry of its own,
and begins there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import txredisapi
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from ..core.redis_url import STREAM, RedisAddress
from ..system.system import System
from .backplane import Shore
from .entries import Entry, Reading, later
from .link import Link, RedisClient
from .reach import Reach
from .unwritten import Unwritten

#: Entries that are read at once.
COUNT: Final = 32
#: Milliseconds that Redis waits for an entry; less than an answer may take (`link.REPLY_TIMEOUT`).
BLOCK: Final = 5000
_BEGINNING: Final = b"0-0"
_MARK: Final = 8


class StreamBackplane:
    """
    The way to other machines, over a stream of Redis (`backplane.Backplane`).

    :param address: the Redis server, and how many entries it keeps.
    :param system: the operating system.
    :param shore: gets what comes from other machines, and is told of outages.
    :ivar lost: messages that did not leave this machine.
    """

    def __init__(self, address: RedisAddress, system: System, shore: Shore) -> None:
        self.lost = 0
        self._length = address.stream
        self._wall = system.wall
        self._mark = system.random_bytes(_MARK)
        self._shore = shore
        self._unwritten = Unwritten()
        self._reading = Reading(self._mark)
        self._position: bytes | None = None
        self._reads = False
        self._reach = Reach(
            address, system.wall, shore.outage, "Until it does, messages wait on this machine."
        )
        self._out = Link(RedisClient, address, system, self._write, self._closed)
        self._in = Link(RedisClient, address, system, self._resume, self._deaf)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._reach.closed()
        self._out.start()
        self._in.start()

    def stop(self) -> Deferred[Any]:
        """Disconnect; the Deferred fires when that is done."""
        return gatherResults([self._out.stop(), self._in.stop()])

    def snapshot(self) -> dict[str, Any]:
        """Where this machine reads, and what it has not written (`backplane.Backplane`)."""
        return {
            "mark": self._mark.hex(),
            "position": None if self._position is None else self._position.decode(),
            "heard": self._in.heard,
            "unwritten": self._unwritten.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on there, under the same mark (`backplane.Backplane`)."""
        self._in.heard = state.get("heard", self._in.heard)
        if state.get("position"):
            self._mark = bytes.fromhex(state["mark"])
            self._reading = Reading(self._mark)
            self._position = state["position"].encode()
            self._unwritten.restore(state["unwritten"])

    # ---------------------------------------------------------------------- writing

    def publish(self, topic: bytes, message: bytes) -> None:
        """Have a message of this machine written, unless too much waits already."""
        idle = self._unwritten.empty
        if not self._unwritten.add(topic, message, self._wall()):
            self.lost += 1
            self._closed("too much waits for it")
        elif idle and self._out.redis is not None:
            self._write()

    def _write(self) -> None:
        """Write the next entry, or the one again whose answer was lost."""
        if self._unwritten.empty:
            self._reach.open()
            self._well()
        else:
            self._append(self._unwritten.entry(), self._unwritten.number)

    def _append(self, entry: Entry, number: int) -> None:
        written = _add(self._out.redis, entry, self._mark, number, self._length)
        written.addCallbacks(self._written, self._refused, errbackArgs=(self._out,))

    def _written(self, _: object) -> None:
        self._unwritten.written()
        self._out.proven()
        if self._unwritten.relaxed:  # else the next message may be lost, and the way closed again
            self._reach.open()
        self._write()

    def _closed(self, reason: str) -> None:
        self._reach.away(reason)
        self._reach.closed()

    def _refused(self, failure: Failure, link: Link) -> None:
        """Try again over another connection: Redis may be full, a replica, or not let us do it."""
        if not failure.check(txredisapi.ConnectionError) and link.redis is not None:
            link.leave(failure.getErrorMessage())

    def _well(self) -> None:
        if self._reads:
            self._reach.well(self.lost)

    # ---------------------------------------------------------------------- reading

    def subscribe(self, topic: bytes) -> None:
        """Do nothing: all topics are read (`backplane.Backplane`)."""

    def unsubscribe(self, topic: bytes) -> None:
        """Do nothing (`backplane.Backplane`)."""

    def _deaf(self, reason: str) -> None:
        self._reads = False
        self._reach.away(reason)

    def _resume(self) -> None:
        """See whether the entry that was read last is still there, and read what follows."""
        since, position = self._in.heard, self._position
        if position is None:
            self._anchor(since)
        else:
            self._there(position).addCallbacks(
                self._resumed, self._refused, (since,), {}, (self._in,), {}
            )

    def _resumed(self, there: list[Any], since: float) -> None:
        if there:
            self._next()
        else:
            self._anchor(since)

    def _anchor(self, since: float) -> None:
        """Write an entry to begin at, and tell that messages before it may be missing."""
        written = _add(self._in.redis, Entry(), self._mark, 0, self._length)
        written.addCallbacks(self._anchored, self._refused, (since,), {}, (self._in,), {})

    def _anchored(self, id: bytes, since: float) -> None:
        """Read from the anchor; or, what is there of a stream that was lost, from where we were."""
        position = self._position
        if position is None:
            self._position = id
        elif not later(id, position):  # a new stream, by a clock that was set back
            self._position = _BEGINNING
        self._shore.gap(since, self._wall())
        self._next(id)

    def _there(self, position: bytes) -> Deferred[Any]:
        there: Deferred[Any] = self._in.redis.execute_command("XRANGE", STREAM, position, position)
        return there

    def _next(self, witness: bytes | None = None) -> None:
        """
        Wait for entries, and look whether any were removed before they could be read.

        The oldest entries are removed first: while one is there, all that came after it are.

        :param witness: the id of an entry up to which gaps have been told; by default that which
            was read last.
        """
        redis, position = self._in.redis, self._position
        assert position is not None
        self._reads = True
        self._in.proven()
        self._well()
        read = redis.execute_command(
            "XREAD", "COUNT", COUNT, "BLOCK", BLOCK, "STREAMS", STREAM, position
        )
        there = self._there(witness or position)
        both = gatherResults([read, there], consumeErrors=True)
        both.addCallbacks(self._read, self._unread, (self._in.heard,))

    def _unread(self, failure: Failure) -> None:
        first = failure.value
        assert isinstance(first, FirstError)
        self._refused(first.subFailure, self._in)

    def _read(self, answers: list[Any], since: float) -> None:
        streams, there = answers
        entries = streams[0][1] if streams else []
        if not there:
            if not entries:
                self._anchor(since)
                return
            self._shore.gap(since, self._wall())
        for id, fields in entries:
            self._position = id
            entry = self._reading.read(fields)
            if entry is not None:
                self._arrived(entry)
        if self._in.redis is not None:
            self._next()

    def _arrived(self, entry: Entry) -> None:
        if entry.notice is not None:
            entry.notice.tell(self._shore)
        for topic, message in entry.messages:
            self._shore.arrived(topic, message)


def _add(redis: Any, entry: Entry, mark: bytes, number: int, length: int) -> Deferred[Any]:
    fields = entry.fields(mark, number)
    added: Deferred[Any] = redis.execute_command(
        "XADD", STREAM, "MAXLEN", "~", length, "*", *fields
    )
    return added
