"""Errors that read as sentences."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.errors import AppLoadError, ConfigError, ListenError, TxstickyError


class ErrorTests(SynchronousTestCase):
    """What the operator reads."""

    def test_sentence(self) -> None:
        """The docstring, filled in, is the sentence."""
        error = ListenError(endpoint="tcp:80", reason="permission denied")
        self.assertEqual(str(error), "Cannot listen on tcp:80: permission denied.")
        self.assertEqual(error.fields, {"endpoint": "tcp:80", "reason": "permission denied"})

    def test_long_docstring(self) -> None:
        """A docstring of several lines is one sentence on one line."""

        class Long(TxstickyError):
            """
            One line about {what},
            and another.
            """

        self.assertEqual(str(Long(what="x")), "One line about x, and another.")

    def test_missing_field(self) -> None:
        """A field that is not given fails where the error is made."""
        self.assertRaises(KeyError, ListenError, endpoint="tcp:80")

    def test_one_full_stop(self) -> None:
        """A hint that is a sentence already gets no second full stop."""
        error = ConfigError(option="--sticky", value="x", hint="Write sid.")
        self.assertEqual(str(error), "--sticky cannot be 'x': Write sid.")

    def test_exit_codes(self) -> None:
        """An application that does not load has an exit code of its own."""
        self.assertEqual((TxstickyError.exit_code, AppLoadError.exit_code), (1, 3))
