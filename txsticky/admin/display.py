"""The answers of the control socket as a person reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TextIO

import attrs

from ..printable import printable

#: SGR codes (ECMA-48, 8.3.117) by what they mean here.
CODES: Final = {"bold": "1", "dim": "2", "good": "32", "busy": "33", "bad": "31"}
STATES: Final = {"ready": "good", "starting": "busy", "draining": "busy", "gone": "bad"}
LEVELS: Final = {"warn": "busy", "error": "bad", "critical": "bad"}
#: Headings of the table of workers; those that do not tell a text are set to the right.
HEADINGS: Final = (
    "worker", "state", "gen", "pid", "up", "conns", "req/s", "requests", "hand-offs", "given",
    "lag", "memory", "pss", "cpu", "moved",
)  # fmt: skip
EVENTS_SHOWN: Final = 10
NOTHING: Final = "-"


@attrs.frozen
class Style:
    """
    How to write.

    :param colours: whether the reader is a terminal that shows them.
    """

    colours: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """What suits a stream: a terminal gets colours unless NO_COLOR (https://no-color.org)."""
        dumb = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("NO_COLOR"))
        return cls(stream.isatty() and not dumb)

    def paint(self, text: str, meaning: str | None) -> str:
        """Mark a text."""
        if not self.colours or meaning is None:
            return text
        return f"\x1b[{CODES[meaning]}m{text}\x1b[0m"


@attrs.frozen
class Cell:
    """A text of a table, and what it means."""

    text: str
    meaning: str | None = None


def table(
    headings: Sequence[str], rows: Sequence[Sequence[Cell]], left: Sequence[int], style: Style
) -> str:
    """
    Write a table.

    :param left: the columns that hold text, and not numbers.
    """
    every = [[Cell(heading, "dim") for heading in headings], *rows]
    widths = [max(len(row[column].text) for row in every) for column in range(len(headings))]
    lines = []
    for row in every:
        cells = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - len(cell.text))
            painted = style.paint(cell.text, cell.meaning)
            cells.append(painted + space if column in left else space + painted)
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`."""
    whole = int(seconds)
    for size, unit, smaller_size, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def size(count: float | None) -> str:
    """Bytes, in megabytes."""
    return NOTHING if count is None else f"{count / 1e6:.1f} MB"


def percent(share: float | None) -> str:
    """A share of one."""
    return NOTHING if share is None else f"{share * 100:.0f} %"


def printable_answer(answer: Any) -> Any:
    """An answer, or a part of it, with printable texts only, so that all that is shown is."""
    if isinstance(answer, str):
        return printable(answer)
    if isinstance(answer, dict):
        return {printable(name): printable_answer(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [printable_answer(value) for value in answer]
    return answer


def shown(verb: str, answer: dict[str, Any], style: Style) -> str:
    """What an answer says."""
    if verb == "status":
        return status(answer["state"], style)
    if verb == "workers":
        return workers(answer["workers"], answer["pauses"], style)
    if verb == "table":
        return keys(answer, style)
    return str(answer["text"]) + "\n"


def workers(them: list[dict[str, Any]], pauses: list[dict[str, Any]], style: Style) -> str:
    """The workers, a line each."""
    rows = [_worker(worker) for worker in them]
    for pause in pauses:
        rest = [Cell(NOTHING)] * (len(HEADINGS) - 2)
        rows.append(
            [Cell(str(pause["worker"])), Cell(f"starts in {pause['seconds']:.0f} s", "bad"), *rest]
        )
    rows.sort(key=lambda row: int(row[0].text))
    return table(HEADINGS, rows, (1,), style)


def _worker(worker: dict[str, Any]) -> list[Cell]:
    state = Cell(worker["state"], STATES[worker["state"]])
    if worker["suspect"]:
        why = ", ".join(worker["suspicions"])
        state = Cell(f"{worker['state']}, suspect ({why})", "bad")
    return [
        Cell(str(worker["worker"]), "bold"),
        state,
        Cell(str(worker["generation"])),
        Cell(str(worker["pid"])),
        Cell(duration(worker["age"])),
        Cell(f"{worker['connections']:,}"),
        Cell(f"{worker['rate']:,.1f}"),
        Cell(f"{worker['requests']:,}"),
        Cell(f"{worker['handoffs']:,}"),
        Cell(f"{worker['given']:,}"),
        Cell(f"{worker['lag'] * 1000:.1f} ms", "bad" if worker["lag"] > 0.1 else None),
        Cell(size(worker["memory"])),
        Cell(size(worker.get("proportion"))),  # a server of another version may not tell it
        Cell(percent(worker["load"])),
        Cell(f"{worker.get('moved', 0):,}"),
    ]


def status(state: dict[str, Any], style: Style) -> str:
    """The whole cluster."""
    primary = state["primary"]
    full = state["ready"] >= state["wanted"]
    ready = style.paint(
        f"{state['ready']} of {state['wanted']} workers ready", "good" if full else "bad"
    )
    told = state.get("kernel_routes")  # a server of another version may not tell it
    where = f" ({told})" if told else ""
    name = style.paint(f"txsticky {state['version']}", "bold")
    if state.get("machine"):  # likewise
        name += f" on machine {state['machine']}"
    doing = [state["phase"]] + ["reloading"] * state["reloading"]
    lines = [
        f"{name}, {', '.join(doing)}, {ready}, generation {state['generation']}",
        f"serves   {state['app']} ({state['interface']}) on {', '.join(state['listen'])},"
        f" sticky by {state['sticky']}{where}, balanced by {state['balance']}",
        f"primary  pid {primary['pid']}, up {duration(state['time'] - state['started'])},"
        f" {size(primary['memory'])}, {percent(primary['load'])} of a processor",
        *map(_template, state.get("templates", ())),
        *(
            f"leader   worker {worker['worker']}, pid {worker['pid']}"
            for worker in state["workers"]
            if worker.get("leads")  # a server of another version may not tell it
        ),
        f"so far   {_counts(primary['routes'])} of {primary['accepted']:,} accepted;"
        f" refused: {_counts(primary['refusals']) or 'none'};"
        f" {primary['bound']:,} bound keys",
        "",
    ]
    text = "\n".join(lines) + "\n" + workers(state["workers"], state["pauses"], style)
    events = state["events"][:EVENTS_SHOWN]
    if events:
        text += "\n" + "".join(_event(event, style) for event in reversed(events))
    return text


def _template(template: dict[str, Any]) -> str:
    doing = "" if template["ready"] else ", starting"
    what = ", with the application" if template["preloaded"] else ""
    return (
        f"template pid {template['pid']}, generation {template['generation']}{doing}{what},"
        f" {size(template['memory'])}, {size(template['proportion'])} PSS"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _event(event: dict[str, Any], style: Style) -> str:
    moment = datetime.fromtimestamp(event["time"]).strftime("%F %T")
    text = style.paint(event["text"], LEVELS.get(event["level"]))
    return f"{style.paint(moment, 'dim')}  {text}\n"


def keys(answer: dict[str, Any], style: Style) -> str:
    """The table of keys."""
    rows = [
        [Cell(str(entry["worker"] or NOTHING)), Cell(str(entry["id"])), Cell(entry["key"])]
        for entry in answer["keys"]
    ]
    text = table(("worker", "id", "key"), rows, (2,), style) if rows else ""
    more = answer["size"] - len(rows)
    if more:
        text += f"and {more:,} more\n"
    return text or "No key is bound.\n"
