"""One connection's life: its state, and what is owed to commands that came too early."""

from __future__ import annotations

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
