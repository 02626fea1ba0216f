"""
The README's table of options, made from their declarations.

``python -m tests.options_table`` writes it into the README.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import attrs

from txsticky.cli.options import CommandSettings
from txsticky.config import Config
from txsticky.core.option import Declaration, declared, default_shown, key

README = Path(__file__).resolve().parent.parent / "README.rst"
#: What stands before and behind the table.
BEFORE, BEHIND = "\nOptions\n-------\n\n", "\nEach option can also"
#: The widths of the columns, in letters.
NAME, MEANING = 28, 67
#: Options of the command that are no settings, and what is said of them.
OTHERS = {
    "``-c --config``": ("TOML file with options", "none"),
    "``--check-config``": ("Check the options, load the application once, and exit", "off"),
}


def named(field: attrs.Attribute[object], told: Declaration) -> str:
    """The names of an option, as the table has them."""
    return f"``{f'-{told.short} ' if told.short else ''}--{key(field)}``"


def table() -> str:
    """The table, in reStructuredText."""
    rows = {
        named(field, told): (told.help, default_shown(field))
        for settings in (Config, CommandSettings)
        for field, told in declared(settings)
        if field.name != "app"
    }
    widest = max(len(default) for _, default in rows.values())
    rule = f"{'=' * NAME}  {'=' * MEANING}  {'=' * widest}"
    lines = [rule, f"{'option':<{NAME}}  {'meaning':<{MEANING}}  default", rule]
    for name, (meaning, default) in (rows | OTHERS).items():
        text = meaning.replace("*", r"\*")
        first, *rest = textwrap.wrap(text, MEANING, break_on_hyphens=False)
        lines.append(f"{name:<{NAME}}  {first:<{MEANING}}  {default}")
        lines += [f"{'':<{NAME}}  {more}" for more in rest]
    return "\n".join([*lines, rule, ""])


def in_readme(text: str) -> str:
    """The table that a README has."""
    return text[text.index(BEFORE) + len(BEFORE) : text.index(BEHIND)]


if __name__ == "__main__":
    old = README.read_text()
    README.write_text(old.replace(in_readme(old), table()))
