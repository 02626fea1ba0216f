"""
Pictures that are drawn when the documentation is built, most of them from the tables of the code.

``.. drawn:: NAME`` stands where a picture is to be: SVG in HTML, text elsewhere. What a picture
shows of the code agrees with it, because it has no other source; `sketches` alone are free.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from house import houses
from sketches import SKETCHES
from sphinx import addnodes
from sphinx.application import Sphinx
from svg import LETTER, Picture, arrow, box, write
from timelines import TIMELINES

from txsticky.core.how import How
from txsticky.core.lifecycle.states import MOVES, WorkerStage
from txsticky.core.messages.from_primary import FROM_PRIMARY
from txsticky.core.messages.from_worker import FROM_WORKER

ROW = 26


def comments(enumeration: type) -> dict[str, str]:
    """Return the comment behind each member of an enumeration, by the member's name."""
    source = inspect.getsource(enumeration)
    return dict(re.findall(r"^    ([A-Z]+) = \S+  # (.*)$", source, re.MULTILINE))


def stages() -> Picture:
    """Draw the stages of a worker, and what may follow each."""
    names = list(WorkerStage)
    width, gap, y = 84, 46, 40
    place = {stage: number * (width + gap) + 2 for number, stage in enumerate(names)}
    elements = [box(place[stage], y, width, stage.value) for stage in names]
    text = []
    for stage, following in MOVES.items():
        for other in sorted(following, key=names.index):
            start, end = place[stage], place[other]
            distance = names.index(other) - names.index(stage)
            if distance == 1:
                elements.append(arrow(f"M{start + width} {y} H{end - 2}"))
            else:  # above, the further the higher
                rise = 4 + 14 * distance
                left, right = start + width / 2, end + width / 2 - 8 * distance
                elements.append(
                    arrow(
                        f"M{left} {y - 10} C{left} {y - rise} {right} {y - rise} {right} {y - 12}"
                    )
                )
        after = ", ".join(other.value for other in sorted(following, key=names.index))
        text.append(f"{stage.value:<9} ─► {after or '(gone)'}")
    size = len(names) * (width + gap) - gap + 4
    return Picture("What may follow each stage of a worker", "\n".join(text), elements, size, 56)


def first_sentence(kind: type) -> str:
    """Return the first sentence of a class's docstring, without its full stop."""
    paragraph = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return re.split(r"\.(?:\s|$)", " ".join(paragraph.split()))[0]


def frames() -> Picture:
    """Draw the control frames between the primary and a worker."""
    languages = (("primary -> worker", FROM_PRIMARY), ("worker -> primary", FROM_WORKER))
    told = [(frame, way) for way, language in languages for frame in language.values()]
    left, right, top = 70, 250, 46
    rows, elements = [], []
    for number, (frame, way) in enumerate(sorted(told, key=lambda row: row[0].KIND)):
        meaning = first_sentence(frame)
        y = top + number * ROW
        start, end = (left, right - 1) if way.startswith("primary") else (right, left + 1)
        elements.append(arrow(f"M{start} {y + 5} H{end}"))
        elements.append(write((left + right) / 2, y - 3, frame.__name__, "middle", "bold"))
        elements.append(write(right + 18, y + 3, meaning))
        rows.append((frame.__name__, way, meaning))
    bottom = top + len(rows) * ROW
    elements += [
        write(left, 12, "primary", "middle", "bold"),
        write(right, 12, "worker", "middle", "bold"),
        f'<path d="M{left} 24 V{bottom} M{right} 24 V{bottom}" stroke-width="2"/>',
    ]
    longest = max(len(name) for name, _, _ in rows)
    text = "\n".join(f"{name:<{longest}}  {way:<19}{meaning}" for name, way, meaning in rows)
    width = right + 30 + LETTER * max(len(meaning) for _, _, meaning in rows)
    return Picture("What the primary and a worker tell each other", text, elements, width, bottom)


def floors(package: str = "txsticky") -> Picture:
    """Draw the import order of a package: a floor imports only from the floors below it."""
    order = houses()[package]
    elements, text = [], []
    widest = 0.0
    for number, floor in enumerate(reversed(order)):
        x, y = 12.0, 22 + number * 30
        for room in floor:
            width = LETTER * len(room) + 16
            elements.append(box(x, y, width, room))
            x += width + 8
        widest = max(widest, x + 4)
        text.append(", ".join(floor))
    height = 30 * len(order) + 12
    for number in range(len(order) + 1):
        y = 7 + number * 30
        elements.append(f'<path d="M2 {y} H{widest}" opacity="0.35"/>')
    title = "The order of imports in " + package
    return Picture(title, "\n".join(text), elements, widest + 2, height)


def routes() -> Picture:
    """Draw the five ways of a request to its worker."""
    told = comments(How)
    elements, text = [], []
    names = [How.TAG, How.HIT, How.HASH, How.MISS, How.NEW]
    assert set(names) == set(How)
    for number, how in enumerate(names):
        y = 16 + number * 34
        elements += [box(4, y, 60, how.name), write(80, y, told[how.name])]
        if number:
            elements.append(arrow(f"M34 {y - 24} V{y - 11}"))
        text.append(f"{how.name:<6}{told[how.name]}")
    width = 90 + LETTER * max(map(len, told.values()))
    height = 34 * len(names)
    return Picture("The first that answers decides", "\n".join(text), elements, width, height)


PICTURES: dict[str, Callable[[], Picture]] = {
    "stages": stages,
    "frames": frames,
    "floors": floors,
    "core": partial(floors, "core"),
    "routes": routes,
    **TIMELINES,
    **SKETCHES,
}


class Drawn(Directive):
    """``.. drawn:: NAME``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in PICTURES:
            raise self.error(f"There is no picture {self.arguments[0]!r}.")
        picture = PICTURES[self.arguments[0]]()
        other = addnodes.only(expr="not html")
        other += nodes.literal_block(picture.text, picture.text)
        return [nodes.raw("", picture.svg(), format="html"), other]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive (Sphinx calls it)."""
    app.add_directive("drawn", Drawn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
