"""
An option of the command, declared once: type, range, default, and the words that explain it.

`txsticky.config.Config` declares its fields with `option`. The command line, ``--help``, the
environment, a configuration file and the README's table are made from these declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import attrs

from ..errors import ConfigError

_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")
#: The key of an attrs field's metadata under which its declaration stands.
_KEY = "option"


class OptionType(Protocol):
    """What values an option takes."""

    def read(self, text: str) -> Any:
        """
        Turn text from a command line or the environment into a value.

        :raises ValueError: the text cannot be read; the message says what would do.
        """

    def check(self, value: Any) -> None:
        """
        Check the type and the range of a value.

        :raises ValueError: the value cannot be; the message says what would do.
        """

    def shown(self, value: Any) -> str:
        """A value as a reader wants to see it, with its unit."""


@attrs.frozen
class Number:
    """
    A number in a range.

    :param whole: only whole numbers.
    :param zero: what 0 means, if 0 is taken outside the range: "never", for instance.
    :param unit: "s" or "bytes"; empty for what is counted.
    """

    low: float
    high: float
    whole: bool = False
    zero: str = ""
    unit: str = ""

    def read(self, text: str) -> int | float:
        """Read a number (`OptionType.read`)."""
        try:
            return int(text) if self.whole else float(text)
        except ValueError:
            raise ValueError(self._wanted()) from None

    def check(self, value: Any) -> None:
        """Check type and range (`OptionType.check`)."""
        number = isinstance(value, int if self.whole else int | float)
        number = number and not isinstance(value, bool)
        if not (number and (self.low <= value <= self.high or (self.zero and value == 0))):
            raise ValueError(self._wanted())

    def _wanted(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        zero = f", or 0 for {self.zero}" if self.zero else ""
        return f"{kind} from {self.low:g} to {self.high:g}{zero}"

    def shown(self, value: Any) -> str:
        """The number with its unit (`OptionType.shown`)."""
        if value == 0 and self.zero:
            return self.zero
        if self.unit == "bytes":
            for size, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
                if value and value % size == 0:
                    return f"{value // size} {name}"
        return f"{value:g}{' ' if self.unit else ''}{self.unit}"


@attrs.frozen
class Text:
    """
    A text.

    :param parse: checks it: raises ValueError with the reason; what it returns is dropped.
    :param none: how the absence of a value is shown.
    """

    parse: Callable[[str], object] | None = None
    none: str = "none"

    def read(self, text: str) -> str:
        """Return the text itself (`OptionType.read`)."""
        return text

    def check(self, value: Any) -> None:
        """Check with `parse` (`OptionType.check`); None stands for an option that is not given."""
        if value is None:
            return
        if not isinstance(value, str):
            raise ValueError("a text")
        if self.parse is not None:
            self.parse(value)

    def shown(self, value: Any) -> str:
        """The text itself (`OptionType.shown`)."""
        return value or self.none


@attrs.frozen
class Choice:
    """One of some names."""

    names: tuple[str, ...]

    def read(self, text: str) -> str:
        """Return the text itself (`OptionType.read`)."""
        return text

    def check(self, value: Any) -> None:
        """Check that the value is one of the names (`OptionType.check`)."""
        if value not in self.names:
            raise ValueError("one of " + " ".join(self.names))

    def shown(self, value: Any) -> str:
        """The name (`OptionType.shown`)."""
        return str(value)


@attrs.frozen
class Flag:
    """Yes or no; no unless it is given."""

    def read(self, text: str) -> bool:
        """Read yes or no (`OptionType.read`)."""
        if text.lower() not in _YES + _NO:
            raise ValueError("one of " + " ".join(_YES + _NO))
        return text.lower() in _YES

    def check(self, value: Any) -> None:
        """Check that the value is a bool (`OptionType.check`)."""
        if not isinstance(value, bool):
            raise ValueError("true or false")

    def shown(self, value: Any) -> str:
        """On or off (`OptionType.shown`)."""
        return "on" if value else "off"


@attrs.frozen
class Several:
    """
    Texts, in their order: the option is repeatable.

    In the environment blanks separate them, in a configuration file they are a list.

    :param parse: checks each: raises ValueError with the reason.
    """

    parse: Callable[[str], object] | None = None
    none: str = "none"

    def read(self, text: str) -> tuple[str, ...]:
        """Split at blanks (`OptionType.read`)."""
        return tuple(text.split())

    def check(self, value: Any) -> None:
        """Check that all are texts (`OptionType.check`)."""
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError("a text, or a list of texts")
        if self.parse is not None:
            for item in value:
                self.parse(item)

    def shown(self, value: Any) -> str:
        """The texts with blanks between (`OptionType.shown`)."""
        return " ".join(value) or self.none


@attrs.frozen
class Alias:
    """
    What another program calls an option.

    :param program: the program.
    :param names: its names for it, without dashes, each with the value that it has there if it is
        not given. Several names make one value together.
    :param value: makes the option's value of those of the names, in their order.
    :param gives: the option's value, where the name alone says it.
    :param remark: what differs, in a few words.
    """

    program: str
    names: Mapping[str, str]
    value: Callable[..., str] = str
    gives: str = ""
    remark: str = ""

    @property
    def switches(self) -> str:
        """The names on a command line: ``--host --port``."""
        return " ".join(f"--{name}" for name in self.names)


@attrs.frozen
class Declaration:
    """
    The declaration of an option, beside its default.

    :param help: one sentence for ``--help`` and the README, without a full stop.
    :param short: its one-letter name.
    :param default: how the default is shown where the value itself says too little.
    :param found: finds the default in the environment, if it stands there.
    :param aliases: what other programs call it.
    """

    kind: OptionType
    help: str
    short: str | None = None
    default: str | None = None
    found: Callable[[Mapping[str, str]], Any] | None = None
    aliases: tuple[Alias, ...] = ()


def option(
    default: Any,
    kind: OptionType,
    *,
    help: str,
    short: str | None = None,
    shown: str | None = None,
    found: Callable[[Mapping[str, str]], Any] | None = None,
    aliases: tuple[Alias, ...] = (),
) -> Any:
    """
    Declare an option: an attrs field that carries its `Declaration` and checks itself.

    :param default: the value if the option is not given.
    :param help: one sentence, without a full stop.
    :param short: its one-letter name on the command line.
    :param shown: how the default is shown; None for the value itself.
    :param found: finds the default in an environment; `default` finds it in the process's own.
    :param aliases: what other programs call it, where it means the same.
    """
    converter = _tuple if isinstance(kind, Several) else None
    metadata = {_KEY: Declaration(kind, help, short, shown, found, aliases)}
    return attrs.field(default=default, validator=_check, converter=converter, metadata=metadata)


def _tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value)


def _check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    try:
        declaration(attribute).kind.check(value)
    except ValueError as error:
        raise ConfigError(option=switch(attribute), value=value, hint=str(error)) from None


def declaration(attribute: attrs.Attribute[Any]) -> Declaration:
    """The declaration of a field made by `option`."""
    found: Declaration = attribute.metadata[_KEY]
    return found


def declared(settings: type) -> Iterator[tuple[attrs.Attribute[Any], Declaration]]:
    """The options that a class of settings declares, in their order."""
    for attribute in attrs.fields(settings):
        if _KEY in attribute.metadata:
            yield attribute, declaration(attribute)


def key(attribute: attrs.Attribute[Any]) -> str:
    """The name of an option, as a configuration file has it: ``keep-alive``."""
    return attribute.name.replace("_", "-")


def switch(attribute: attrs.Attribute[Any]) -> str:
    """The name of an option on the command line: ``--keep-alive``."""
    return "--" + key(attribute)


def default_shown(attribute: attrs.Attribute[Any]) -> str:
    """The default of an option, as ``--help`` and the README tell it."""
    told = declaration(attribute)
    return told.default or told.kind.shown(attribute.default)
