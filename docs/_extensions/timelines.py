"""
What happens when, in a start, a stop, a reload and an upgrade: pictures with the times of the code.

Each is drawn for the defaults of the options; the times come from `Config` and from the modules
that keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from svg import ACCENT, LINE, Picture, wrapped, write

from txsticky.config import Config
from txsticky.core.lifecycle import timing
from txsticky.core.lifecycle.fleet import ATTEMPTS
from txsticky.primary.beginning import OTHERS
from txsticky.primary.upgrade.trial import TRIAL_TIME

WIDTH, AXIS = 370, 84
DEFAULTS = Config()
GRACEFUL = DEFAULTS.graceful_timeout


@attrs.frozen
class Event:
    """
    One line of a timeline.

    :ivar time: when, as it is shown.
    :ivar stressed: whether clients or operators notice it most.
    """

    time: str
    text: str
    stressed: bool = False


def seconds(number: float) -> str:
    """Show a time."""
    return f"{number:.4g} s"


def timeline(title: str, events: Sequence[Event]) -> Picture:
    """Draw events from the first to the last, downwards."""
    elements, y = [], 20.0
    top = y
    for event in events:
        lines = wrapped(event.text, WIDTH - AXIS - 20)
        weight = "bold" if event.stressed else "normal"
        fill = ACCENT if event.stressed else "currentColor"
        elements.append(write(AXIS - 14, y, event.time, "end", weight))
        elements.append(f'<circle cx="{AXIS}" cy="{y}" r="4" fill="{fill}" stroke="none"/>')
        for number, line in enumerate(lines):
            elements.append(write(AXIS + 14, y + number * LINE, line, weight=weight))
        bottom, y = y, y + LINE * len(lines) + 12
    elements.insert(0, f'<path d="M{AXIS} {top} V{bottom}" opacity="0.5"/>')
    text = "\n".join(f"{event.time:>10}  {event.text}" for event in events)
    return Picture(title, text, elements, WIDTH, y)


def start() -> Picture:
    """Draw a start."""
    return timeline(
        "A start, with the default options",
        [
            Event("0 s", "The ports are open: txsticky listens on ... Requests wait."),
            Event("", "The template imports what workers need, and forks them."),
            Event("", "Each worker loads the application and runs its start-up."),
            Event("", "The first worker is ready.", stressed=True),
            Event(
                f"+ {seconds(OTHERS)}",
                "At the latest: txsticky serves ... Requests are routed, READY=1 is sent. Sooner if"
                " all workers are ready.",
                stressed=True,
            ),
            Event(
                seconds(DEFAULTS.queue_timeout),
                "A request that has waited for so long (--queue-timeout) gets 503.",
            ),
            Event(
                seconds(DEFAULTS.start_timeout),
                "A worker that is not ready by now (--start-timeout) is killed and started again.",
            ),
            Event(
                f"{ATTEMPTS} times",
                "Every worker has failed so often in a row, and none serves: the program ends, exit"
                " code 1.",
            ),
        ],
    )


def stop() -> Picture:
    """Draw a graceful stop."""
    return timeline(
        f"A graceful stop (TERM), with --graceful-timeout {GRACEFUL:g}",
        [
            Event("0 s", "TERM. The ports close, idle connections too.", stressed=True),
            Event("", "WebSockets are closed with 1001, one after the other."),
            Event(
                seconds(timing.pinned_end(GRACEFUL)),
                "The last WebSocket has been told.",
            ),
            Event(
                seconds(timing.requests_end(GRACEFUL)),
                "Requests that still run are cut. A worker without any goes on sooner: the"
                " application's shut-down begins.",
                stressed=True,
            ),
            Event(
                seconds(GRACEFUL),
                "The application's shut-down is waited for no longer; the event loop ends. Then"
                " threads that are no daemons, and atexit.",
            ),
            Event(seconds(timing.killed(GRACEFUL)), "What is still there is killed.", True),
        ],
    )


def quick() -> Picture:
    """Draw a quick stop."""
    whole = timing.quick(GRACEFUL)
    return timeline(
        "A quick stop (INT or QUIT)",
        [
            Event("0 s", "INT. The ports close. No request is waited for.", stressed=True),
            Event(
                seconds(timing.last_call(whole)),
                "Requests that still run are cancelled (ASGI) or left (threads).",
            ),
            Event(
                seconds(whole),
                "The application's shut-down is waited for no longer.",
            ),
            Event(seconds(timing.killed(whole)), "What is still there is killed.", True),
        ],
    )


#: Where the bars of a reload stand: from the left of the picture.
SCALE, LEFT = 5.6, 20.0
#: Seconds that a start takes in the picture; what it takes in truth is the application's matter.
STARTED = 8.0


def reload() -> Picture:
    """Draw a reload of two workers."""
    rows = [
        ("HUP: a new template starts", 0, STARTED, False),
        ("worker 1, new: starts", STARTED / 2, STARTED, False),
        ("worker 1, old: drains", STARTED, STARTED + GRACEFUL, True),
        ("worker 2, new: starts", STARTED, STARTED * 1.5, False),
        ("worker 2, old: drains", STARTED * 1.5, STARTED * 1.5 + GRACEFUL, True),
    ]
    elements, text, y = [], [], 16.0
    for name, begin, end, drains in rows:
        elements.append(write(LEFT + begin * SCALE, y, name))
        elements.append(_bar(begin, end, y + 12, drains))
        if drains:
            for mark in (timing.pinned_end(GRACEFUL), timing.requests_end(GRACEFUL)):
                x = LEFT + (begin + mark) * SCALE
                elements.append(f'<path d="M{x:.1f} {y + 10} V{y + 26}"/>')
        text.append(f"{name}")
        y += 48
    legend = [
        f"A bar of a drain is at most {GRACEFUL:g} s (--graceful-timeout).",
        f"Until {seconds(timing.pinned_end(GRACEFUL))}: sessions of the old worker still reach it,"
        " and its WebSockets end one by one.",
        f"Until {seconds(timing.requests_end(GRACEFUL))}: what is under way may finish.",
        f"Then the application shuts down; at {seconds(timing.killed(GRACEFUL))} it is killed.",
    ]
    for sentence in legend:
        for line in wrapped(sentence, WIDTH - 10):
            elements.append(write(4, y, line))
            y += LINE
        y += 4
    return Picture("A reload of two workers", "\n".join([*text, *legend]), elements, WIDTH, y)


def _bar(begin: float, end: float, y: float, drains: bool) -> str:
    colour = "currentColor" if drains else ACCENT
    return (
        f'<rect x="{LEFT + begin * SCALE:.1f}" y="{y}" width="{(end - begin) * SCALE:.1f}"'
        f' height="12" rx="3" fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>'
    )


def upgrade() -> Picture:
    """Draw an upgrade in place."""
    return timeline(
        "An upgrade in place (USR2)",
        [
            Event("0 s", "USR2. A trial starts the new program in a child process."),
            Event(
                seconds(TRIAL_TIME),
                "At the latest: the trial has passed. Otherwise the old program goes on, and the"
                " log says why.",
                stressed=True,
            ),
            Event("", "The primary executes the new program: same pid, same sockets."),
            Event(
                "",
                "The new program has taken over. Workers and their connections have noticed"
                " nothing; new connections have waited for a moment.",
                stressed=True,
            ),
            Event("HUP", "Replaces the workers, which still run the old version."),
        ],
    )


TIMELINES: dict[str, Callable[[], Picture]] = {
    "start": start,
    "stop": stop,
    "quick": quick,
    "reload": reload,
    "upgrade": upgrade,
}
