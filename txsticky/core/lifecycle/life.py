"""
A connection's life in a worker: its states, the worker's commands, and the answers.

The table is the same for every host, be it a transport of Twisted, one of asyncio's or TLS.  A
connection that is handed to a worker brings bytes that were read elsewhere. Until they are
delivered the `Conversation` looks idle, and the connection is not: so the table is asked first, and
the conversation only where the table says `NOW`.
"""

from __future__ import annotations

import enum
from typing import Final


class LifeState(enum.Enum):
    """Where a connection is in its life."""

    __hash__ = object.__hash__  # Enum's own is a Python function

    HANDED = "handed"  # taken in hand; nothing is there yet that could serve it
    MADE = "made"  # its transport is made; the event loop may not have connected it yet
    BEGUN = "begun"  # its protocol is connected; what the connection brought is not delivered
    SERVING = "serving"  # all that it brought is delivered; its conversation knows the rest
    FLUSHING = "flushing"  # it is to go elsewhere, once its output is in the kernel
    CLOSING = "closing"  # it is to be closed, once its output is in the kernel
    DEPARTING = "departing"  # its descriptor is being taken away, with what is not delivered
    GONE = "gone"  # closed, or given to its next place


#: What may follow. A connection can be lost in any state.
MOVES: Final = {
    LifeState.HANDED: {LifeState.MADE, LifeState.GONE},
    LifeState.MADE: {LifeState.BEGUN, LifeState.CLOSING, LifeState.GONE},
    # What follows in its own first bytes may take it elsewhere.
    LifeState.BEGUN: {LifeState.SERVING, LifeState.CLOSING, LifeState.DEPARTING, LifeState.GONE},
    LifeState.SERVING: {LifeState.FLUSHING, LifeState.CLOSING, LifeState.DEPARTING, LifeState.GONE},
    # What the protocol writes unasked while its output leaves keeps the connection here.
    LifeState.FLUSHING: {LifeState.SERVING, LifeState.CLOSING, LifeState.DEPARTING, LifeState.GONE},
    LifeState.CLOSING: {LifeState.GONE},
    LifeState.DEPARTING: {LifeState.GONE},
    LifeState.GONE: set[LifeState](),
}


class LifeCommand(enum.Enum):
    """The commands that a connection may get from its worker, at any time."""

    ROOM = "descriptors are short: close if idle"
    LEAVE = "the worker leaves: go elsewhere if idle"
    STOP = "the cluster stops: close if idle"
    CLOSE = "close, as politely as the protocol can"
    ABORT = "close at once"


class LifeAnswer(enum.Enum):
    """What a command does in a state."""

    NOW = "what the conversation allows, now"
    LATER = "the same, as soon as all is delivered that the connection brought"
    NOTHING = "nothing, for it is about something that is not there, or under way already"
    END = "close the connection, now"


_NO: Final = LifeAnswer.NOTHING
_NOW: Final = LifeAnswer.NOW
_LATER: Final = LifeAnswer.LATER
_END: Final = LifeAnswer.END

# fmt: off
_ROWS: Final = {
    # A connection that brought a request is not closed for room, nor given away before that was
    # seen; one that is on its way out is not sent twice.
    #                     room  leave   stop    close   abort
    LifeState.HANDED:    (_NO,  _LATER, _LATER, _LATER, _END),
    LifeState.MADE:      (_NO,  _LATER, _LATER, _LATER, _END),
    LifeState.BEGUN:     (_NO,  _LATER, _LATER, _LATER, _END),
    LifeState.SERVING:   (_NOW, _NOW,   _NOW,   _NOW,   _END),
    LifeState.FLUSHING:  (_NO,  _NO,    _NO,    _NO,    _END),
    LifeState.CLOSING:   (_NO,  _NO,    _NO,    _NO,    _END),
    LifeState.DEPARTING: (_NO,  _NO,    _NO,    _NO,    _END),
    LifeState.GONE:      (_NO,  _NO,    _NO,    _NO,    _NO),
}
# fmt: on

#: What each command does in each state.
ANSWERS: Final = {state: dict(zip(LifeCommand, row, strict=True)) for state, row in _ROWS.items()}


class Life:
    """
    One connection's life: its state, and the commands that wait until all is delivered.

    :ivar state: where the connection is in its life.
    """

    __slots__ = ("_owed", "state")

    def __init__(self) -> None:
        self.state = LifeState.HANDED
        self._owed: tuple[LifeCommand, ...] = ()

    def move(self, state: LifeState) -> bool:
        """
        Enter another state.

        :returns: False if the state is the same, or `MOVES` does not lead to the new one, for
            instance back from the end.
        """
        if state not in MOVES[self.state]:
            return False
        self.state = state
        return True

    def answer(self, command: LifeCommand, state: LifeState | None = None) -> LifeAnswer:
        """
        Tell what a command does now. A command that is put off is kept for `owed`.

        :param state: the state to answer in, if that is known better: what is being served may be
            flushing or closing.
        """
        answer = ANSWERS[state or self.state][command]
        if answer is _LATER and command not in self._owed:
            self._owed += (command,)
        return answer

    def owed(self) -> tuple[LifeCommand, ...]:
        """Take the commands that were put off, in the order in which they came."""
        owed, self._owed = self._owed, ()
        return owed
