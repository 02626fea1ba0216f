"""The table of a conversation's states: it lists what can happen, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.heads import known_of
from tests.core.http.talk import GET, OK, POST, SWITCHING, UNTIL_CLOSE
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.incoming import MOVES, PHASES, Input
from txsticky.core.http.response import ResponsePhase

Call = Callable[[Conversation], object]


def feeding(data: bytes) -> Call:
    """Have the client send."""
    return lambda conversation: conversation.feed(data)


def writing(data: bytes) -> Call:
    """Have the inner protocol write."""
    return lambda conversation: conversation.wrote(data)


KNOWN = known_of(GET)
CALLS: dict[str, Call] = {
    "a request": feeding(GET),
    "most of one": feeding(POST[:-2]),
    "the rest of it": feeding(POST[-2:]),
    "an odd one": feeding(b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n"),
    "a chunked one": feeding(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "no request": feeding(b"\0\n"),
    "next": Conversation.next,
    "keep": Conversation.keep,
    "known": lambda conversation: conversation.begin(KNOWN, GET),
    "remainder": Conversation.remainder,
    "a response": writing(OK),
    "most of one written": writing(OK[:-1]),
    "its last byte": writing(OK[-1:]),
    "one until the end": writing(UNTIL_CLOSE),
    "a 101": writing(SWITCHING),
}

State = tuple[Input, ResponsePhase]


def state(conversation: Conversation) -> State:
    """The pair that the table is about."""
    return conversation._input, conversation._response.phase


def course(calls: Sequence[Call]) -> tuple[Conversation, list[State]]:
    """
    The states of a conversation from the beginning on, one for each call.

    A call that raises `RuntimeError`, because it is not allowed then, changes nothing.
    """
    conversation = Conversation(first_is_ours=False)  # so that a known request may be its first
    states = [state(conversation)]
    for call in calls:
        try:
            call(conversation)
        except RuntimeError:
            pass
        states.append(state(conversation))
    return conversation, states


def signature(conversation: Conversation) -> tuple[object, ...]:
    """What decides how a conversation goes on."""
    response = conversation._response
    flags = ("request_open", "finished_request", "over", "last", "_last", "_held", "_seen")
    theirs = ("phase", "started", "closes", "surplus", "_method", "_withheld", "_begun")
    return (
        conversation._input,
        *(getattr(conversation, name) for name in flags),
        *(getattr(response, name) for name in theirs),
    )


class TableTests(SynchronousTestCase):
    """MOVES and PHASES."""

    def explored(self, depth: int = 7, most: int = 60) -> list[list[State]]:
        """The courses of all sequences of calls, as far as they lead to something new."""
        known = set()
        courses = []
        frontier: list[list[Call]] = [[]]
        for _ in range(depth):
            further = []
            for calls in frontier:
                for call in CALLS.values():
                    longer = [*calls, call]
                    conversation, states = course(longer)
                    courses.append(states[-2:])
                    if conversation.held <= most and signature(conversation) not in known:
                        known.add(signature(conversation))
                        further.append(longer)
            frontier = further
        return courses

    def test_exact(self) -> None:
        """Every move and every pair that the table lists occurs, and none besides."""
        moves, pairs = set(), set()
        for (before, _), (after, phase) in self.explored():
            pairs.add((after.name, phase.name))
            if before is not after:
                moves.add((before.name, after.name))
        self.assertEqual(moves, {(a.name, b.name) for a, them in MOVES.items() for b in them})
        self.assertEqual(pairs, {(a.name, b.name) for a, them in PHASES.items() for b in them})

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(list(CALLS.values())),
                st.binary(max_size=4).map(feeding),
                st.binary(max_size=4).map(writing),
            ),
            max_size=30,
        )
    )
    @settings(deadline=None, max_examples=300)
    def test_any_course(self, calls: list[Call]) -> None:
        """However calls follow each other, every step is one of the table's."""
        _, states = course(calls)
        for (before, _), (after, phase) in pairwise(states):
            self.assertTrue(after is before or after in MOVES[before], (before, after))
            self.assertIn(phase, PHASES[after], after)
