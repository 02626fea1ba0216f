"""What makes text printable."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from txsticky.errors import TxstickyError
from txsticky.printable import printable, quotable

#: Every character, also those that no text has.
ANY = st.text(st.characters(exclude_categories=()))


class Told(TxstickyError):
    """The key {key} is odd."""


class PrintableTests(TestCase):
    """What is escaped, and what stays."""

    def test_escapes(self) -> None:
        """An escape sequence is shown, not done: neither with ESC nor with C1's CSI."""
        self.assertEqual(printable("\x1b[2Ja\x9b2Jb\x7f\x07"), r"\x1b[2Ja\x9b2Jb\x7f\x07")

    def test_directions(self) -> None:
        """Nothing turns the direction of what follows."""
        self.assertEqual(printable("a\u202eb\u2066c\u061c"), r"a\u202eb\u2066c\u061c")

    def test_text_stays(self) -> None:
        """Text of any script stays as it is, and so do backslashes."""
        for text in ("", "C:\\new", "grüße, 世界 👩\u200d👧", "می\u200cخواهم", "a\u00a0b"):
            self.assertEqual(printable(text), text)

    def test_lines(self) -> None:
        """Line breaks and tabs stay where there may be several lines, and nowhere else."""
        self.assertEqual(printable("a\n\tb\rc", lines=True), "a\n\tb\\x0dc")
        self.assertEqual(printable("a\n\tb"), r"a\x0a\x09b")

    @given(ANY, st.booleans())
    def test_any(self, text: str, lines: bool) -> None:
        """Of any text no control character is left, it can be encoded, and twice is as once."""
        shown = printable(text, lines)
        left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
        self.assertEqual(left - (set("\n\t") if lines else set()), set())
        directions = {c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLO", "PDI")}
        self.assertEqual(directions, set())
        shown.encode()
        self.assertEqual(printable(shown, lines), shown)

    @given(st.binary())
    def test_quotable(self, value: bytes) -> None:
        """Any bytes are ASCII in quotes, and can be told from it."""
        shown = quotable(value)
        self.assertTrue(shown.isascii() and shown.isprintable())
        self.assertEqual(shown.encode().decode("unicode-escape").encode("latin-1"), value)

    def test_errors(self) -> None:
        """An error's sentence is printable, whatever its fields are."""
        self.assertEqual(str(Told(key="\x1b]0;x\x07")), r"The key \x1b]0;x\x07 is odd.")
        self.assertEqual(str(Told(key="a\nb")), "The key a\nb is odd.")
