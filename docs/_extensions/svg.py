"""The parts of the documentation's pictures: lines, boxes, text and arrows as SVG elements."""

from __future__ import annotations

import textwrap
from html import escape

import attrs

LETTER = 7.3  # the width of a letter of the pictures' type
LINE = 16  # from one line of text to the next
#: The width of a picture that a phone shows as a whole.
PHONE = 380
#: The colour that a picture stresses something with: the theme's, in the light and in the dark.
ACCENT = "var(--color-brand-primary, #06c)"
#: What parts letters from the lines behind them: an edge in the colour of the page.
HALO = (
    'stroke="var(--color-background-primary, #fff)" stroke-width="4" stroke-linejoin="round"'
    ' paint-order="stroke"'
)


@attrs.frozen
class Picture:
    """
    A picture as text and as SVG.

    :ivar title: what it shows, in a few words.
    :ivar text: the picture as text.
    :ivar elements: its SVG elements.
    """

    title: str
    text: str
    elements: list[str]
    width: float
    height: float

    def svg(self) -> str:
        """
        Return the picture as an SVG element in the colour of the text around it.

        One that is wider than a phone is scrolled there, so that its letters can be read.
        """
        least = f"min-width: {0.85 * self.width:.0f}px; " if self.width > PHONE else ""
        return (
            '<div style="overflow-x: auto; margin: 1rem 0">'
            f'<svg class="drawn" role="img" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
            f' style="{least}max-width: {self.width:.0f}px; width: 100%" fill="none"'
            ' stroke="currentColor" font-family="ui-monospace, monospace" font-size="12">'
            f"<title>{escape(self.title)}</title>"
            '<defs><marker id="tip" orient="auto" markerWidth="8" markerHeight="8" refX="7"'
            ' refY="4"><path d="M0 1 L7 4 L0 7 Z" fill="currentColor" stroke="none"/></marker>'
            f"</defs>{''.join(self.elements)}</svg></div>"
        )


def write(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    """Draw a line of text, vertically centred on `y`."""
    return (
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="currentColor" {HALO}>{escape(text)}</text>'
    )


def box(x: float, y: float, width: float, text: str) -> str:
    """Draw a word in a box, vertically centred on `y`."""
    return f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="{width:.1f}" height="20" rx="4"/>' + write(
        x + width / 2, y, text, "middle"
    )


def arrow(path: str) -> str:
    """Draw a path with a tip."""
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def dashed(path: str) -> str:
    """Draw a path with a tip, dashed."""
    return f'<path d="{path}" stroke-dasharray="5 4" marker-end="url(#tip)"/>'


def stressed(element: str) -> str:
    """Draw an element in the colour that stands out."""
    return f'<g stroke="{ACCENT}" stroke-width="2">{element}</g>'


def paragraph(x: float, y: float, text: str, width: float, anchor: str = "start") -> list[str]:
    """Draw text in lines of at most so many pixels, the first vertically centred on `y`."""
    lines = wrapped(text, width)
    return [write(x, y + number * LINE, line, anchor) for number, line in enumerate(lines)]


def wrapped(text: str, width: float) -> list[str]:
    """Break text into lines of at most so many pixels."""
    return textwrap.wrap(text, int(width / LETTER), break_on_hyphens=False)
