"""Names of hosts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.hosts import Hosts, is_name


class NameTests(SynchronousTestCase):
    """What is a name."""

    def test_longest(self) -> None:
        """A name has 255 characters at most (RFC 1123, 2.1)."""
        name = ".".join(["a" * 63] * 3 + ["b" * 63])
        self.assertEqual(len(name), 255)
        self.assertTrue(is_name(name))
        self.assertFalse(is_name(name + "."))


class AnswersTests(SynchronousTestCase):
    """What is no address."""

    def test_no_address_in_brackets(self) -> None:
        """Brackets around what is no address are plainly no."""
        self.assertIs(Hosts().answers("[1:2]"), False)
