"""The soak sees what it is to see: a slope, a message that is missing, a process that grows."""

from __future__ import annotations

import io
import os
import random
from contextlib import redirect_stdout
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.soak import LEAP, Look, Soak, Speaker, Talker, pss, trend
from tests.integration.rawhttp import Fault


class TrendTests(SynchronousTestCase):
    """What is a slope."""

    def series(self, slope: float, noise: float, count: int = 60) -> list[tuple[float, float]]:
        """A series of 100 and more, with noise that repeats itself."""
        rng = random.Random(1)
        return [(at, 100 + slope * at + rng.gauss(0, noise)) for at in range(count)]

    def test_line(self) -> None:
        """A line is what it is, from where its beginning is left out."""
        seen = trend(self.series(0.5, 0.0, 101))
        self.assertEqual((seen.growth, round(seen.mean, 6)), (40.0, 130.0))
        self.assertLess(seen.error, 1e-6)

    def test_noise(self) -> None:
        """Noise is no slope, however large it is; a slope under it is one."""
        self.assertFalse(trend(self.series(0.0, 20.0)).grows(1.0))
        self.assertTrue(trend(self.series(0.5, 3.0)).grows(1.0))

    def test_allowed(self) -> None:
        """A slope that is allowed is none; nor is one that falls."""
        self.assertFalse(trend(self.series(0.1, 0.01)).grows(10.0))
        self.assertFalse(trend(self.series(-0.5, 0.01)).grows(0.0))

    def test_warm(self) -> None:
        """What a process takes at the beginning is no slope."""
        points = [(at, 50.0 if at < 10 else 100.0) for at in range(60)]
        self.assertFalse(trend(points).grows(1.0))


class TalkerTests(SynchronousTestCase):
    """What a WebSocket hears."""

    def hear(self, *numbers: int) -> None:
        """Hear what is said to all."""
        talker = Talker(server=None, draw=random.Random())  # type: ignore[arg-type]
        for number in numbers:
            talker.hear(number)

    def test_in_order(self) -> None:
        """A WebSocket may begin to hear anywhere; a speaker that leaps has not been lost."""
        self.hear(5, 6, 7, LEAP, LEAP + 1, 3 * LEAP)

    def test_wrong(self) -> None:
        """A message that is missing, comes twice or too early is an error."""
        for numbers in ((5, 7), (5, 5), (5, 4), (5, LEAP + 1)):
            self.assertRaises(Fault, self.hear, *numbers)

    def test_leaps(self) -> None:
        """A speaker that did not hear its last word goes on with the next multiple."""
        speaker = Speaker(server=None, draw=random.Random())  # type: ignore[arg-type]
        said: list[bytes] = []
        self.patch(speaker, "say", said.append)
        speaker.turn()
        speaker.turn()
        self.assertEqual(said, [b"all 1", b"all %d" % LEAP])


class VerdictTests(SynchronousTestCase):
    """What is wrong in the end."""

    def verdict(self, growth: float, errors: list[str]) -> list[str]:
        """The verdict on a run in which the primary grows."""
        nothing: Any = None
        soak = Soak(nothing, 1.0, 1.0, errors=errors)
        soak.looks = [Look(at, 300e6, 40e6 + growth * at, 70.0) for at in range(60)]
        with redirect_stdout(io.StringIO()):
            return soak.verdict()

    def test_short(self) -> None:
        """Nothing can be said of a run that was too short."""
        nothing: Any = None
        self.assertIn("too short", Soak(nothing, 0.1, 1.0).verdict()[0])

    def test_well(self) -> None:
        """Nothing is wrong."""
        self.assertEqual(self.verdict(0.0, []), [])

    def test_wrong(self) -> None:
        """An error is wrong, and so is what grows, by its name."""
        self.assertIn("1 errors: ['why']", self.verdict(0.0, ["why"])[0])
        (grown,) = self.verdict(1e5, [])
        self.assertIn("It grows. primary: ", grown)

    def test_pss(self) -> None:
        """The proportional set of a process is some megabytes."""
        self.assertTrue(5e6 < pss(os.getpid()) < 1e9)
