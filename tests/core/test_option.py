"""What values an option takes, and how they are shown."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.option import (
    Choice,
    Flag,
    Number,
    OptionType,
    Several,
    Text,
    declared,
    default_shown,
    key,
    option,
    switch,
)
from txsticky.errors import ConfigError


class NumberTests(SynchronousTestCase):
    """Numbers in a range."""

    def taken(self, kind: Number, *values: object) -> list[bool]:
        """Which values are taken."""

        def takes(value: object) -> bool:
            try:
                kind.check(value)
            except ValueError:
                return False
            return True

        return list(map(takes, values))

    def test_range(self) -> None:
        """Both ends of the range belong to it; 0 below it does not."""
        found = self.taken(Number(1, 10), 0, 0.9, 1, 10, 10.1)
        self.assertEqual(found, [False, False, True, True, False])

    def test_zero(self) -> None:
        """Where 0 has a meaning it is taken, and nothing else outside the range."""
        found = self.taken(Number(1, 10, zero="never"), 0, 0.5, 11, -1, 5)
        self.assertEqual(found, [True, False, False, False, True])

    def test_whole(self) -> None:
        """A whole number has no fraction, and neither kind is a bool or a text."""
        self.assertEqual(self.taken(Number(0, 9, whole=True), 1, 1.0, True), [True, False, False])
        self.assertEqual(self.taken(Number(0, 9), 1, 1.5, True, "1"), [True, True, False, False])

    def test_read(self) -> None:
        """Text is read as what is wanted, or refused with the range."""
        self.assertEqual(Number(0, 9, whole=True).read("7"), 7)
        self.assertEqual(Number(0, 9).read("0.5"), 0.5)
        error = self.assertRaises(ValueError, Number(1, 9, whole=True, zero="never").read, "x")
        self.assertEqual(str(error), "a whole number from 1 to 9, or 0 for never")

    def test_shown(self) -> None:
        """A number is shown with its unit, bytes in the largest that divides them."""
        size = Number(0, 1 << 30, whole=True, unit="bytes")
        self.assertEqual(
            [size.shown(n) for n in (0, 1000, 1024, 1536, 3 << 20)],
            ["0 bytes", "1000 bytes", "1 KiB", "1536 bytes", "3 MiB"],
        )
        self.assertEqual([Number(0, 9, unit="s").shown(2.5), Number(0, 9).shown(3)], ["2.5 s", "3"])
        self.assertEqual(Number(1, 9, zero="never", unit="s").shown(0), "never")


class OtherTests(SynchronousTestCase):
    """Texts, names, flags and lists."""

    def test_text(self) -> None:
        """A text is checked by its parser; None stands for none."""
        Text(int).check("1")
        Text(int).check(None)
        self.assertRaises(ValueError, Text(int).check, "x")
        self.assertRaises(ValueError, Text().check, 1)
        self.assertEqual((Text().shown(None), Text().shown("a")), ("none", "a"))

    def test_choice(self) -> None:
        """A choice takes one of its names."""
        Choice(("a", "b")).check("b")
        self.assertRaises(ValueError, Choice(("a", "b")).check, "c")

    def test_flag(self) -> None:
        """A flag is yes or no, in several words and whatever their case."""
        self.assertEqual([Flag().read(text) for text in ("YES", "1", "off", "0")], [1, 1, 0, 0])
        self.assertRaises(ValueError, Flag().read, "perhaps")
        self.assertRaises(ValueError, Flag().check, 1)
        self.assertEqual([Flag().shown(True), Flag().shown(False)], ["on", "off"])

    def test_several(self) -> None:
        """Texts between blanks are each checked."""
        self.assertEqual(Several().read(" a  b "), ("a", "b"))
        Several(int).check(("1", "2"))
        for wrong in (("1", "x"), ("1", 2), ["1"], "1"):
            self.assertRaises(ValueError, Several(int).check, wrong)
        self.assertEqual((Several().shown(("a", "b")), Several().shown(())), ("a b", "none"))

    def test_words(self) -> None:
        """What a value may be is told in words that follow a colon."""
        kinds: tuple[tuple[OptionType, str], ...] = (
            (Text(), "a text"),
            (Choice(("a", "b")), "one of a b"),
            (Flag(), "true or false"),
            (Several(), "a text, or a list of texts"),
            (Number(0.5, 9), "a number from 0.5 to 9"),
        )
        for kind, wanted in kinds:
            error = self.assertRaises(ValueError, kind.check, object())
            self.assertEqual(str(error), wanted)
        error = self.assertRaises(ValueError, Flag().read, "perhaps")
        self.assertEqual(str(error), "one of 1 true yes on 0 false no off")

    def test_every_word(self) -> None:
        """Every word for yes and for no is read."""
        for text in ("1", "true", "yes", "on"):
            self.assertIs(Flag().read(text), True)
        for text in ("0", "false", "no", "off"):
            self.assertIs(Flag().read(text), False)


@attrs.frozen
class Settings:
    """Three options, and what is none."""

    keep_alive: float = option(60.0, Number(0, 90, unit="s"), help="How long", short="k")
    other: int = 1
    listen: tuple[str, ...] = option(("a",), Several(), help="Where")
    size: int = option(0, Number(0, 9, whole=True), help="How much", shown="by itself")


class DeclarationTests(SynchronousTestCase):
    """Options of a class of settings."""

    def test_declared(self) -> None:
        """The options are found in their order, with what was said of each."""
        found = list(declared(Settings))
        self.assertEqual([key(each) for each, _ in found], ["keep-alive", "listen", "size"])
        self.assertEqual(switch(found[0][0]), "--keep-alive")
        told = [(declaration.help, declaration.short) for _, declaration in found]
        self.assertEqual(told, [("How long", "k"), ("Where", None), ("How much", None)])
        self.assertEqual([default_shown(each) for each, _ in found], ["60 s", "a", "by itself"])

    def test_several(self) -> None:
        """One text stands for a list of one, and any list becomes a tuple."""
        self.assertEqual(Settings(listen="b").listen, ("b",))  # type: ignore[arg-type]
        self.assertEqual(Settings(listen=["b", "c"]).listen, ("b", "c"))  # type: ignore[arg-type]

    def test_wrong(self) -> None:
        """A value that cannot be is told with the option's name."""
        error = self.assertRaises(ConfigError, Settings, keep_alive=91)
        self.assertEqual(str(error), "--keep-alive cannot be 91: a number from 0 to 90.")
