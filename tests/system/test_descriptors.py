"""The limit of open files."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system import descriptors


class LimitTests(SynchronousTestCase):
    """The limit of open files."""

    def raised(self, soft: int, hard: int, refuse: bool = False) -> list[tuple[int, int]]:
        """What is asked for when these are the limits."""
        asked: list[tuple[int, int]] = []

        def set_limit(which: int, limits: tuple[int, int]) -> None:
            if refuse:
                raise ValueError("not permitted")
            asked.append(limits)

        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(resource, "setrlimit", set_limit)
        descriptors.raise_file_limit()
        return asked

    def test_to_the_hard_limit(self) -> None:
        """The soft limit becomes the hard one."""
        self.assertEqual(self.raised(1024, 4096), [(4096, 4096)])

    def test_unlimited(self) -> None:
        """Where there is no hard limit it becomes a million."""
        infinite = resource.RLIM_INFINITY
        self.assertEqual(self.raised(1024, infinite), [(1 << 20, infinite)])

    def test_enough(self) -> None:
        """If it is that already, nothing is asked for."""
        self.assertEqual(self.raised(4096, 4096), [])

    def test_refused(self) -> None:
        """If the system refuses, things stay as they are."""
        self.assertEqual(self.raised(1024, 4096, refuse=True), [])
