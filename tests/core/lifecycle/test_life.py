"""The life of a connection: the table of answers, and that of moves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.life import ANSWERS, BEFORE, MOVES, Answer, Command, Life, State


class TableTests(SynchronousTestCase):
    """The table of answers, and that of moves."""

    def test_whole(self) -> None:
        """Every command has an answer in every state, and every state has its moves."""
        for state in State:
            self.assertEqual(set(ANSWERS[state]), set(Command))
        self.assertEqual(set(MOVES), set(State))

    def test_not_before_it_serves(self) -> None:
        """Before all is delivered nothing but an abort ends a connection or sends it elsewhere."""
        wanted = (Command.ROOM, Command.LEAVE, Command.STOP, Command.CLOSE)
        answers = {ANSWERS[state][command] for state in BEFORE for command in wanted}
        self.assertEqual(answers, {Answer.LATER, Answer.NOTHING})
        self.assertTrue(all(ANSWERS[state][Command.ABORT] is Answer.END for state in BEFORE))

    def test_later_has_a_later(self) -> None:
        """What is put off can be done: only states that lead to the one that serves put off."""
        putting_off = {state for state in State if Answer.LATER in ANSWERS[state].values()}
        self.assertEqual(putting_off, set(BEFORE))

    def test_on_its_way_out(self) -> None:
        """A connection that is on its way out is not sent anywhere else."""
        for state in (State.FLUSHING, State.CLOSING, State.DEPARTING):
            for command in (Command.ROOM, Command.LEAVE, Command.STOP, Command.CLOSE):
                self.assertIs(ANSWERS[state][command], Answer.NOTHING)

    def test_gone(self) -> None:
        """What is gone answers nothing and goes nowhere."""
        self.assertEqual(set(ANSWERS[State.GONE].values()), {Answer.NOTHING})
        self.assertEqual(MOVES[State.GONE], set())

    def test_may_be_lost(self) -> None:
        """A connection can be lost in every state."""
        self.assertTrue(
            all(State.GONE in MOVES[state] for state in State if state is not State.GONE)
        )


class LifeTests(SynchronousTestCase):
    """One life."""

    def test_owed(self) -> None:
        """What was put off is told once, in its order, and the same command once."""
        life = Life()
        for command in (Command.STOP, Command.CLOSE, Command.STOP):
            self.assertIs(life.answer(command), Answer.LATER)
        self.assertEqual(life.owed(), (Command.STOP, Command.CLOSE))
        self.assertEqual(life.owed(), ())

    def test_better_known(self) -> None:
        """The answer is that of the state that is known better."""
        life = Life()
        life.move(State.MADE), life.move(State.BEGUN), life.move(State.SERVING)
        self.assertIs(life.answer(Command.ROOM), Answer.NOW)
        self.assertIs(life.answer(Command.ROOM, State.CLOSING), Answer.NOTHING)

    @given(st.lists(st.sampled_from(State)))
    def test_moves(self, wanted: list[State]) -> None:
        """Whatever is asked for, only steps of the table are made."""
        life = Life()
        for state in wanted:
            before = life.state
            moved = life.move(state)
            self.assertEqual(moved, state in MOVES[before])
            self.assertIs(life.state, state if moved else before)
