"""
What the benchmarks say in one table: ``.. verdict::``, made from the last run's figures.

A ratio above 1 means that txsticky is ahead: more requests, or less CPU, time or memory.
``.. measured:: NAME`` includes what ``python -m benchmarks NAME`` has written, once it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "results.json"
OURS = "txsticky"


def standing(result: dict[str, Any]) -> str:
    """Say how txsticky stands beside the others of one measurement, the best of them last."""
    ours = result["summaries"][0]["name"]
    main, more_is_better = result["main"]
    ratios = {
        summary["name"]: summary["ratios"][main]
        for summary in result["summaries"]
        if main in summary["ratios"] and not summary["name"].startswith((OURS, ours))
    }
    ranked = sorted((1 / r if more_is_better else r, name) for name, r in ratios.items())
    return "; ".join(f"{ratio:.2f} x {name}" for ratio, name in reversed(ranked))


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield for each measurement its title, the figure that counts, and how txsticky stands."""
    for result in json.loads(RESULTS.read_text())["results"]:
        main, _ = result["main"]
        ours, beside = result["summaries"][0], standing(result)
        if beside:  # else no others, or nothing that has a ratio: the tables tell
            figure = ours["figures"][main]
            yield result["title"], f"{figure:,.{0 if figure >= 100 else 1}f} {main}", beside


class Verdict(Directive):
    """``.. verdict::``."""

    def run(self) -> list[nodes.Node]:
        text = [".. list-table::", "   :header-rows: 1", "   :widths: 34 22 44", ""]
        for first, second, third in (("measured", OURS, "txsticky is"), *rows()):
            text += [f"   * - {first}", f"     - {second}", f"     - {third}"]
        holder = nodes.container()
        self.state.nested_parse(StringList(text, source="results"), self.content_offset, holder)
        return holder.children


class Measured(Directive):
    """``.. measured:: NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        path = RESULTS.with_name(f"{name}.rst")
        text = f"Not measured here yet: ``python -m benchmarks {name}`` does."
        if path.exists():
            text = path.read_text()
        self.state_machine.insert_input(text.splitlines(), str(path))
        return []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives (Sphinx calls it)."""
    app.add_directive("verdict", Verdict)
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
