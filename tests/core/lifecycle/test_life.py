"""The life of a connection: the table of answers, and that of moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.life import (
    ANSWERS,
    BEFORE,
    MOVES,
    Life,
    LifeAnswer,
    LifeCommand,
    LifeState,
)


class TableTests(SynchronousTestCase):
    """The table of answers, and that of moves."""

    def test_whole(self) -> None:
        """Every command has an answer in every state, and every state has its moves."""
        for state in LifeState:
            self.assertEqual(set(ANSWERS[state]), set(LifeCommand))
        self.assertEqual(set(MOVES), set(LifeState))

    def test_not_before_it_serves(self) -> None:
        """Before all is delivered nothing but an abort ends a connection or sends it elsewhere."""
        wanted = (LifeCommand.ROOM, LifeCommand.LEAVE, LifeCommand.STOP, LifeCommand.CLOSE)
        answers = {ANSWERS[state][command] for state in BEFORE for command in wanted}
        self.assertEqual(answers, {LifeAnswer.LATER, LifeAnswer.NOTHING})
        self.assertTrue(
            all(ANSWERS[state][LifeCommand.ABORT] is LifeAnswer.END for state in BEFORE)
        )

    def test_later_has_a_later(self) -> None:
        """What is put off can be done: only states that lead to the one that serves put off."""
        putting_off = {state for state in LifeState if LifeAnswer.LATER in ANSWERS[state].values()}
        self.assertEqual(putting_off, set(BEFORE))

    def test_on_its_way_out(self) -> None:
        """A connection that is on its way out is not sent anywhere else."""
        for state in (LifeState.FLUSHING, LifeState.CLOSING, LifeState.DEPARTING):
            for command in (
                LifeCommand.ROOM,
                LifeCommand.LEAVE,
                LifeCommand.STOP,
                LifeCommand.CLOSE,
            ):
                self.assertIs(ANSWERS[state][command], LifeAnswer.NOTHING)

    def test_gone(self) -> None:
        """What is gone answers nothing and goes nowhere."""
        self.assertEqual(set(ANSWERS[LifeState.GONE].values()), {LifeAnswer.NOTHING})
        self.assertEqual(MOVES[LifeState.GONE], set())

    def test_may_be_lost(self) -> None:
        """A connection can be lost in every state."""
        self.assertTrue(
            all(
                LifeState.GONE in MOVES[state] for state in LifeState if state is not LifeState.GONE
            )
        )


class LifeTests(SynchronousTestCase):
    """One life."""

    def test_owed(self) -> None:
        """What was put off is told once, in its order, and the same command once."""
        life = Life()
        for command in (LifeCommand.STOP, LifeCommand.CLOSE, LifeCommand.STOP):
            self.assertIs(life.answer(command), LifeAnswer.LATER)
        self.assertEqual(life.owed(), (LifeCommand.STOP, LifeCommand.CLOSE))
        self.assertEqual(life.owed(), ())

    def test_better_known(self) -> None:
        """The answer is that of the state that is known better."""
        life = Life()
        life.move(LifeState.MADE), life.move(LifeState.BEGUN), life.move(LifeState.SERVING)
        self.assertIs(life.answer(LifeCommand.ROOM), LifeAnswer.NOW)
        self.assertIs(life.answer(LifeCommand.ROOM, LifeState.CLOSING), LifeAnswer.NOTHING)

    @given(st.lists(st.sampled_from(LifeState)))
    def test_moves(self, wanted: list[LifeState]) -> None:
        """Whatever is asked for, only steps of the table are made."""
        life = Life()
        for state in wanted:
            before = life.state
            moved = life.move(state)
            self.assertEqual(moved, state in MOVES[before])
            self.assertIs(life.state, state if moved else before)


class OwedTests(SynchronousTestCase):
    """What is to be done later."""

    def test_only_later(self) -> None:
        """A command is owed where the table says that it is for later, and nowhere else."""
        for state in LifeState:
            for command in LifeCommand:
                life = Life()
                answer = life.answer(command, state)
                self.assertIs(answer, ANSWERS[state][command])
                owed = (command,) if answer is LifeAnswer.LATER else ()
                self.assertEqual(life.owed(), owed, (state, command))

    def test_only_before(self) -> None:
        """Nothing is for later once all is delivered that the connection brought."""
        later = {s for s in LifeState if LifeAnswer.LATER in ANSWERS[s].values()}
        self.assertEqual(later, set(BEFORE))

    def test_once(self) -> None:
        """Commands are owed in their order, each once, until they are taken."""
        life = Life()
        for command in (LifeCommand.STOP, LifeCommand.LEAVE, LifeCommand.STOP):
            life.answer(command)
        self.assertEqual(life.owed(), (LifeCommand.STOP, LifeCommand.LEAVE))
        self.assertEqual(life.owed(), ())


class MoveTests(SynchronousTestCase):
    """From state to state."""

    def test_table(self) -> None:
        """A life goes where the table leads, and stays where it does not."""
        for state in LifeState:
            for target in LifeState:
                life = Life()
                life.state = state
                self.assertEqual(life.move(target), target in MOVES[state])
                self.assertIs(life.state, target if target in MOVES[state] else state)

    def test_begins(self) -> None:
        """A connection is in hand before anything else."""
        self.assertIs(Life().state, LifeState.HANDED)
