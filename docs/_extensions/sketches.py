"""Pictures of how things are connected: hand-off, give-back, TLS, machines, and what to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
from svg import LINE, Picture, arrow, box, dashed, stressed, wrapped, write

WIDTH = 370


@attrs.frozen
class Step:
    """
    One message of a sequence, or what one of its lanes does if it goes from a lane to itself.

    :ivar stressed: whether it is the one that matters.
    """

    start: int
    end: int
    text: str
    stressed: bool = False


def sequence(title: str, lanes: Sequence[str], steps: Sequence[Step]) -> Picture:
    """Draw lanes side by side, and messages between them downwards."""
    gap = WIDTH / len(lanes)
    place = [gap * (number + 0.5) for number in range(len(lanes))]
    elements: list[str] = []
    text = []
    y = 50.0
    for step in steps:
        start, end = place[step.start], place[step.end]
        weight = "bold" if step.stressed else "normal"
        alone = step.start == step.end
        lines = wrapped(step.text, 170 if alone else max(abs(end - start), 170))
        middle = min(max((start + end) / 2, 88), WIDTH - 88)
        for number, line in enumerate(lines):
            elements.append(write(middle, y + number * 15, line, "middle", weight))
        y += 15 * len(lines)
        if alone:
            elements.append(f'<circle cx="{start}" cy="{y}" r="3" fill="currentColor"/>')
        else:
            tip = end - 3 if end > start else end + 3
            line = arrow(f"M{start} {y} H{tip}")
            elements.append(stressed(line) if step.stressed else line)
        text.append(f"{lanes[step.start]} -> {lanes[step.end]}: {step.text}")
        y += 24
    # The lines of the lanes break where text stands, because text is drawn on the page's colour.
    ways = [f'<path d="M{x} 24 V{y - 8}" opacity="0.25" stroke-width="1.5"/>' for x in place]
    heads = [box(x - gap / 2 + 4, 13, gap - 8, name) for x, name in zip(place, lanes, strict=True)]
    return Picture(title, "\n".join(text), [*ways, *heads, *elements], WIDTH, y)


CLIENT, PRIMARY, FIRST, SECOND = 0, 1, 2, 3
LANES = ("client", "primary", "worker 1", "worker 2")

HAND_OFF = (
    Step(CLIENT, PRIMARY, "connects, sends a head"),
    Step(PRIMARY, PRIMARY, "reads the head, routes: worker 2"),
    Step(PRIMARY, SECOND, "descriptor + prefix", stressed=True),
    Step(PRIMARY, PRIMARY, "closes its copy"),
    Step(CLIENT, SECOND, "the rest of the request"),
    Step(SECOND, CLIENT, "the response, and all that follows"),
)
GIVE_BACK = (
    Step(CLIENT, SECOND, "next request, same connection"),
    Step(SECOND, SECOND, "its key belongs to worker 1"),
    Step(SECOND, FIRST, "if a tag names it: descriptor + head", stressed=True),
    Step(SECOND, PRIMARY, "else to the front desk, to be routed", stressed=True),
    Step(PRIMARY, FIRST, "descriptor + head"),
    Step(FIRST, CLIENT, "the response"),
)
RELAY = (
    Step(CLIENT, PRIMARY, "connects"),
    Step(PRIMARY, FIRST, "descriptor, chosen by address or load"),
    Step(CLIENT, FIRST, "handshake: the keys stay in worker 1"),
    Step(CLIENT, FIRST, "a request, encrypted"),
    Step(FIRST, FIRST, "decrypts the head: it belongs to worker 2"),
    Step(FIRST, SECOND, "one end of a socket pair", stressed=True),
    Step(SECOND, FIRST, "the response, in the clear"),
    Step(FIRST, CLIENT, "the response, encrypted"),
)


def frame(x: float, y: float, width: float, height: float, text: str) -> list[str]:
    """Draw a machine around what runs on it."""
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" stroke-dasharray="4 4"'
        ' opacity="0.6"/>',
        write(x + 10, y + 14, text, weight="bold"),
    ]


def architecture() -> Picture:
    """Draw a client, the primary and the workers."""
    elements = [
        box(140, 14, 90, "clients"),
        *frame(4, 64, 362, 204, "one machine"),
        box(140, 104, 90, "primary"),
        arrow("M170 24 V92"),
        write(8, 44, "connect, first head"),
    ]
    for number, x in enumerate((20, 140, 260)):
        elements += [
            box(x, 196, 90, f"worker {number + 1}"),
            stressed(arrow(f"M{185 + (number - 1) * 18} 114 L{x + 45} 184")),
            box(x, 240, 90, "application"),
            f'<path d="M{x + 45} 206 V230" opacity="0.5"/>',
        ]
    elements += [
        write(185, 150, "descriptor + prefix", "middle", "bold"),
        dashed("M230 14 H358 V184"),
        write(236, 44, "all other bytes"),
    ]
    text = (
        "clients -> primary: connect, first head\n"
        "primary -> worker:  descriptor + prefix\n"
        "clients <-> worker: all other bytes, through the kernel"
    )
    return Picture("How txsticky is built", text, elements, WIDTH, 276)


def machines() -> Picture:
    """Draw two machines behind a balancer."""
    elements = [box(130, 14, 110, "balancer"), write(250, 14, "chooses the")]
    elements.append(write(250, 30, "machine"))
    text = ["balancer -> machine A, machine B: by cookie or address"]
    for name, x in (("A", 4), ("B", 194)):
        middle = x + 86
        elements += [
            *frame(x, 64, 172, 150, f"machine {name}"),
            box(x + 41, 104, 90, "primary"),
            arrow(f"M185 24 L{middle} 92"),
            box(x + 8, 184, 74, "worker 1"),
            box(x + 90, 184, 74, "worker 2"),
            stressed(arrow(f"M{middle - 8} 114 L{x + 45} 172")),
            stressed(arrow(f"M{middle + 8} 114 L{x + 127} 172")),
            dashed(f"M{middle} 214 L{170 if name == 'A' else 200} 252"),
        ]
        text.append(f"machine {name}: primary -> worker 1, worker 2")
    elements += [box(135, 264, 100, "Redis"), write(185, 290, "the bus alone", "middle")]
    text.append("machines <-> Redis: the bus alone")
    return Picture("Two machines", "\n".join(text), elements, WIDTH, 304)


@attrs.frozen
class Question:
    """A question of the picture that helps to choose, and what follows if the answer is yes."""

    text: str
    answer: str


CHOICES = (
    Question("Does the application keep nothing in a process?", "any server will do"),
    Question("Do clients keep cookies (browsers)?", "the default: auto"),
    Question("Socket.IO, or MCP over HTTP?", "the default: auto"),
    Question("Does a response set the session's cookie or header?", "cookie:NAME, header:NAME"),
    Question("Does the client make up the key?", "query:NAME, header:NAME, path:REGEX"),
    Question("Can the application change its session ids?", "mint them, or bind them"),
    Question("Nothing of all that?", "ip"),
)


def decision() -> Picture:
    """Draw the questions that lead to a sticky key, each with its answer."""
    elements, text, y = [], [], 18.0
    for number, question in enumerate(CHOICES):
        lines = wrapped(question.text, 330)
        for line in lines:
            elements.append(write(22, y, line))
            y += LINE
        elements.append(stressed(arrow(f"M30 {y} H54")))
        elements.append(write(60, y, question.answer, weight="bold"))
        if number + 1 < len(CHOICES):
            elements.append(arrow(f"M8 {y - LINE * len(lines) + 6} V{y + 24}"))
            elements.append(write(13, y + 16, "no"))
        text.append(f"{question.text}\n    yes: {question.answer}\n    no:  the next question")
        y += 36
    return Picture("Which key?", "\n".join(text), elements, WIDTH, y - 8)


SKETCHES: dict[str, Callable[[], Picture]] = {
    "architecture": architecture,
    "hand-off": partial(sequence, "A hand-off", LANES, HAND_OFF),
    "give-back": partial(sequence, "A connection moves on", LANES, GIVE_BACK),
    "relay": partial(sequence, "A request over TLS that is relayed", LANES, RELAY),
    "machines": machines,
    "decision": decision,
}
