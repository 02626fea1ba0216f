"""What other programs call options: their names are taken where they mean the same."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final

import attrs
from twisted.python import usage

from ..config import Config
from ..core.option import Alias, Several, declaration, declared, key, switch

#: What to do in place of an option of gunicorn's or uvicorn's that has no like.
HINTS: Final = {
    "worker-class": "what APP is, is detected; --interface says it where that fails",
    "daemon": "a service manager, such as systemd, runs it in the background",
    "pid": "a service manager, such as systemd, knows its process",
    "chdir": "start it in that directory",
    "app-dir": "start it in that directory, or name it in PYTHONPATH",
    "error-logfile": "the log goes to the standard output",
    "log-config-json": "--log-config takes JSON as well",
    "proxy-headers": "they are read as soon as --forwarded-allow-ips names the proxy",
    "loop": "set UVICORN_LOOP in the environment",
    "http": "set UVICORN_HTTP in the environment",
    "ws": "set UVICORN_WS in the environment",
    "lifespan": "set UVICORN_LIFESPAN in the environment",
}
#: Short names of these.
_SHORT: Final = {"k": "worker-class", "D": "daemon", "p": "pid", "b": "bind", "t": "timeout"}
_UNKNOWN: Final = re.compile(r"option --?(\S+) not recognized")
#: The width of the column of names in the help.
_NAMES: Final = 34


def known() -> Iterator[tuple[attrs.Attribute[Any], Alias]]:
    """Yield every alias, with the option that it stands for."""
    for field, told in declared(Config):
        for alias in told.aliases:
            yield field, alias


def takes_several(field: attrs.Attribute[Any], alias: Alias) -> bool:
    """Whether an alias may be given several times."""
    return isinstance(declaration(field).kind, Several) and len(alias.names) == 1


def take(options: MutableMapping[str, Any]) -> None:
    """
    Put what was said by the names of other programs under those of the options.

    :param options: the parsed command line.
    :raises UsageError: an option is given by two names.
    """
    for field, told in declared(Config):
        name = key(field)
        said = [alias for alias in told.aliases if any(options.get(each) for each in alias.names)]
        given = [switch(field)] if options.get(name) else []
        given += [alias.switches for alias in said]
        if len(given) > 1:
            one, other = given[:2]
            raise usage.UsageError(f"{one} and {other} say the same thing: give one of them.")
        for alias in said:
            options[name] = _value(options, alias, several=isinstance(told.kind, Several))
            # The command line is looked at again when options follow APP.
            options.update(dict.fromkeys(alias.names))


def _value(options: MutableMapping[str, Any], alias: Alias, several: bool) -> Any:
    """Make the value of an option from that of its alias."""
    if alias.gives:
        return alias.gives
    first = next(iter(alias.names))
    if several and len(alias.names) == 1:
        return [alias.value(each) for each in options[first]]
    value = alias.value(*(options[name] or usual for name, usual in alias.names.items()))
    return [value] if several else value


def help_text(width: int) -> str:
    """
    List the aliases, for ``--help``.

    :param width: of the terminal, in letters.
    """
    lines = ["Names of other programs, which mean the same:"]
    for field, alias in known():
        names = f"      {alias.switches}"
        told = f"{alias.program}'s name for {switch(field)} {alias.gives}".rstrip()
        usual = " ".join(filter(None, alias.names.values()))
        text = f"{told} [{usual}]" if usual else told
        rows = textwrap.wrap(text, max(20, width - _NAMES), break_on_hyphens=False)
        lines.append(f"{names:<{_NAMES}}{rows[0]}")
        lines += [" " * _NAMES + row for row in rows[1:]]
    return "\n".join([*lines, ""])


def hinted(sentence: str, names: Iterable[str]) -> str:
    """
    Say what to do in place of an option that there is not.

    :param sentence: what is wrong with the command line.
    :param names: the options that there are, without dashes.
    :returns: the sentence, or a better one.
    """
    found = _UNKNOWN.search(sentence)
    if found is None:
        return sentence
    name = _SHORT.get(found[1], found[1])
    dashes = "-" if len(found[1]) == 1 else "--"
    meant = difflib.get_close_matches(name, names, 1)
    if name in HINTS:
        hint = HINTS[name]
    elif name in names:
        hint = f"write --{name}"
    elif meant and len(name) > 1:
        hint = f"there is --{meant[0]}"
    else:
        hint = "--help tells those that there are"
    return f"There is no option {dashes}{found[1]}: {hint}."


def flags() -> list[list[str | None]]:
    """The aliases that take no value, as `usage.Options.optFlags`."""
    return [[name, None, ""] for _, alias in known() if alias.gives for name in alias.names]


def parameters() -> list[list[str | None]]:
    """The aliases that take one value, as `usage.Options.optParameters`."""
    return [
        [name, None, None, ""]
        for field, alias in known()
        if not alias.gives and not takes_several(field, alias)
        for name in alias.names
    ]
