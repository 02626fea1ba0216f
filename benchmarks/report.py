"""The results for the documentation: a table for each work, a plot, and the raw figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from attrs import asdict, evolve, frozen

from .measure import Figures, Summary

_WIDTH, _LABEL, _BAR, _ROW = 720, 190, 380, 30
_OURS, _THEIRS = "#2563eb", "#94a3b8"


@frozen
class Result:
    """
    The results of one work: summaries (txsticky first), raw figures, who is missing and why.

    :param where: where it was measured; empty if that is still to be said.
    """

    name: str
    title: str
    goal: str
    main: tuple[str, bool]
    summaries: list[Summary]
    rounds: dict[str, list[Figures]]
    missing: list[str]
    where: str = ""


def number(value: float) -> str:
    """A figure for a reader: three digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.005 else "0"


def table(result: Result) -> str:
    """A table in reStructuredText: a row for each contender, a column for each figure."""
    main, more = result.main
    columns = list(dict.fromkeys(key for summary in result.summaries for key in summary.figures))
    columns.sort(key=lambda key: key != main)
    rows = [["", *columns, "txsticky is" if main in columns else ""]]
    for summary in result.summaries:
        cells = [number(summary.figures[key]) if key in summary.figures else "" for key in columns]
        rows.append([summary.name, *cells, _advantage(summary.ratios.get(main), more)])
    rows[1][-1] = ""
    if not any(summary.ratios for summary in result.summaries):  # a curve
        rows = [row[:-1] for row in rows]
    return rows_table(rows)


def rows_table(rows: Iterable[Sequence[str]]) -> str:
    """A table in reStructuredText, of cells; the first row and the first column are heads."""
    lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in rows:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def write_rows(
    name: str, machine: str, head: list[str], rows: list[list[str]], folder: Path
) -> None:
    """Write figures that are no works: `NAME.rst`, to be included, and `NAME.json`."""
    (folder / f"{name}.rst").write_text(f"{machine}\n\n{rows_table([head, *rows])}")
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


def read_rows(name: str, folder: Path) -> list[list[str]]:
    """Read the rows that `write_rows` has written; none if it has not."""
    try:
        told = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return []
    rows: list[list[str]] = told["rows"]
    return rows


def _advantage(ratio: float | None, more: bool) -> str:
    """How many times better the first is, by the ratio of the other to it."""
    if not ratio:
        return ""
    return f"{number(1 / ratio if more else ratio)} x"


def plot(result: Result) -> str:
    """Horizontal bars of the main figure, as SVG."""
    main, more = result.main
    bars = [(s.name, s.figures[main]) for s in result.summaries if main in s.figures]
    most = max((value for _, value in bars), default=0) or 1
    height = 40 + _ROW * len(bars) + 8
    said = "more is better" if more else "less is better"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="14">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="24" font-weight="bold">{escape(result.title)}</text>',
        f'<text x="{_WIDTH - 8}" y="24" text-anchor="end" fill="#475569">{escape(main)},'
        f" {said}</text>",
    ]
    for row, (name, value) in enumerate(bars):
        top = 40 + _ROW * row
        length = max(1.0, _BAR * value / most)
        color = _OURS if row == 0 else _THEIRS
        lines += [
            f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 9}"'
            f' fill="{color}"/>',
            f'<text x="{_LABEL + length + 8:.1f}" y="{top + 17}">{number(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def page(results: Iterable[Result], machine: str) -> str:
    """All tables, to be included in the documentation; a result from elsewhere says so."""
    parts = [machine + "\n"]
    for result in results:
        parts.append(f"{result.title}\n{'-' * len(result.title)}\n")
        if result.where not in ("", machine):
            parts.append(f"{result.where}\n")
        if result.goal:
            parts.append(f"Goal: {result.goal}.\n")
        parts.append(
            f".. image:: ../benchmarks/results/{result.name}.svg\n   :alt: {result.title}\n"
        )
        parts.append(table(result))
        parts += [f"{reason}\n" for reason in result.missing]
    return "\n".join(parts)


def write(results: list[Result], machine: str, folder: Path, name: str = "results") -> None:
    """
    Write the page and the raw figures, under a name, and the plots.

    What is there of works that were not measured this time stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = {result.name: evolve(result, where=machine) for result in results}
    kept = {result.name: result for result in read(folder, name)}
    together = list((kept | now).values())
    (folder / f"{name}.rst").write_text(page(together, machine))
    (folder / f"{name}.json").write_text(
        json.dumps({"machine": machine, "results": [asdict(r) for r in together]}, indent=1)
    )
    for result in results:
        (folder / f"{result.name}.svg").write_text(plot(result))


def read(folder: Path, name: str = "results") -> list[Result]:
    """Read what `write` has written; nothing if it has not."""
    try:
        told = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return []
    return [
        Result(
            **each
            | {
                "main": tuple(each["main"]),
                "summaries": [Summary(**summary) for summary in each["summaries"]],
            }
        )
        for each in told["results"]
    ]
