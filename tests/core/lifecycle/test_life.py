"""The life of a connection: the table of answers, and that of moves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.life import (
    ANSWERS,
    MOVES,
    Life,
    LifeAnswer,
    LifeCommand,
    LifeState,
)

#: The states before that in which all is delivered that the connection brought.
BEFORE = (LifeState.HANDED, LifeState.MADE, LifeState.BEGUN)
#: What sends a connection away, in peace.
AWAY = (LifeCommand.ROOM, LifeCommand.LEAVE, LifeCommand.STOP, LifeCommand.CLOSE)


class TableTests(SynchronousTestCase):
    """The table of answers, and that of moves."""

    def test_whole(self) -> None:
        """Every command has an answer in every state, and every state has its moves."""
        for state in LifeState:
            self.assertEqual(set(ANSWERS[state]), set(LifeCommand))
        self.assertEqual(set(MOVES), set(LifeState))

    def test_not_before_it_serves(self) -> None:
        """Before all is delivered nothing but an abort ends a connection or sends it elsewhere."""
        answers = {ANSWERS[state][command] for state in BEFORE for command in AWAY}
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
            for command in AWAY:
                self.assertIs(ANSWERS[state][command], LifeAnswer.NOTHING)

    def test_gone(self) -> None:
        """A connection that is gone answers nothing and goes nowhere."""
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

    def test_begins(self) -> None:
        """A connection is in hand before anything else."""
        self.assertIs(Life().state, LifeState.HANDED)

    def test_moves(self) -> None:
        """A life goes where the table leads, and stays where it does not."""
        for state in LifeState:
            for target in LifeState:
                life = Life()
                life.state = state
                self.assertEqual(life.move(target), target in MOVES[state])
                self.assertIs(life.state, target if target in MOVES[state] else state)

    def test_only_later(self) -> None:
        """A command is owed where the table says that it is for later, and nowhere else."""
        for state in LifeState:
            for command in LifeCommand:
                life = Life()
                answer = life.answer(command, state)
                self.assertIs(answer, ANSWERS[state][command])
                owed = (command,) if answer is LifeAnswer.LATER else ()
                self.assertEqual(life.owed(), owed, (state, command))

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
