"""
The settings, from their one declaration: ``.. settings:: NAME NAME...`` lists those that it names.

``.. settings:: others`` lists those that the page does not name.

Each becomes an option of Sphinx, so that ``:option:`--keep-alive``` leads to it and the search
finds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import attrs
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

from txsticky.cli.aliases import HINTS, known
from txsticky.cli.options import CommandSettings
from txsticky.config import Config
from txsticky.core.option import (
    Choice,
    Declaration,
    Flag,
    Number,
    Several,
    declared,
    default_shown,
    key,
    switch,
)

#: Every setting by its key, ``keep-alive``.
SETTINGS: dict[str, tuple[attrs.Attribute[Any], Declaration]] = {
    key(field): (field, told)
    for source in (Config, CommandSettings)
    for field, told in declared(source)
    if field.name != "app"
}


#: In the place of names: what the page names nowhere.
REST: Final = "others"


def rest(page: str) -> list[str]:
    """Return the settings that no directive of a page names."""
    named = re.findall(r"^\.\. settings:: (.*)$", page, re.MULTILINE)
    return [name for name in SETTINGS if name not in " ".join(named).split()]


def values(told: Declaration) -> str:
    """Say what values an option takes."""
    match told.kind:
        case Number(low, high, whole, zero, unit):
            kind = "whole number" if whole else "number"
            also = f", or 0 for {zero}" if zero else ""
            return f"{kind} from {low:,g} to {high:,g}{f' {unit}' if unit else ''}{also}"
        case Choice(names):
            return ", ".join(f"``{name}``" for name in names)
        case Flag():
            return "on or off"
        case Several():
            return "text; repeatable"
        case _:
            return "text"


def example(name: str, told: Declaration) -> str:
    """Write an option as a configuration file has it, with a value that it may have."""
    match told.kind:
        case Number(low, high, whole, _, _):
            value = max(low, min(high, 20))
            return f"{name} = {int(value) if whole else value:g}"
        case Choice(names):
            return f'{name} = "{names[-1]}"'
        case Flag():
            return f"{name} = true"
        case Several():
            return f'{name} = ["...", "..."]'
        case _:
            return f'{name} = "..."'


def lines(name: str) -> Iterator[str]:
    """Yield the entry of one setting, in reStructuredText."""
    field, told = SETTINGS[name]
    argument = "" if isinstance(told.kind, Flag) else " VALUE"
    short = f"-{told.short}{argument}, " if told.short else ""
    yield f".. option:: {short}{switch(field)}{argument}"
    yield ""
    yield f"   {told.help.replace('*', chr(92) + '*')}."
    yield ""
    yield f"   *Values:* {values(told)}. *Default:* {default_shown(field)}."
    yield f"   ``TXSTICKY_{field.name.upper()}``, ``{example(name, told)}``"
    yield ""


def aliases() -> Iterator[str]:
    """Yield a table of what other programs call the settings, in reStructuredText."""
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 35 30 35", "")
    yield from ("   * - theirs", "     - here", "     - remark")
    for program in ("gunicorn", "uvicorn"):
        for field, alias in known():
            if alias.program == program:
                yield f"   * - {program} ``{alias.switches}``"
                yield f"     - ``{f'{switch(field)} {alias.gives}'.rstrip()}``"
                usual = " ".join(filter(None, alias.names.values()))
                remark = alias.remark or (f"by default {usual}, as there" if usual else "")
                yield f"     - {remark}"
    yield ""


def hints() -> Iterator[str]:
    """Yield a table of what to do in place of other programs' options, in reStructuredText."""
    yield from (".. list-table::", "   :widths: 35 65", "")
    for name, hint in HINTS.items():
        yield f"   * - ``--{name}``"
        yield f"     - {hint}"
    yield ""


class Aliases(Directive):
    """``.. aliases::``, and ``.. aliases:: hints``."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = list(hints() if self.arguments else aliases())
        holder = nodes.container()
        self.state.nested_parse(StringList(text, source="aliases"), self.content_offset, holder)
        return holder.children


class Settings(Directive):
    """``.. settings:: NAME NAME...``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        names = self.arguments[0].split()
        if names == [REST]:
            names = rest("\n".join(self.state_machine.input_lines))
        wrong = [name for name in names if name not in SETTINGS]
        if wrong:
            raise self.error(f"There is no setting {wrong[0]!r}.")
        text = [line for name in names for line in lines(name)]
        holder = nodes.container()
        self.state.nested_parse(StringList(text, source="settings"), self.content_offset, holder)
        return holder.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive (Sphinx calls it)."""
    app.add_directive("settings", Settings)
    app.add_directive("aliases", Aliases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
