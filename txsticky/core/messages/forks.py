"""What the primary and a template tell each other: each frame is one message of their socket."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import attrs

from .frames import PROTOCOL, Fields, language

#: The longest of these frames, in bytes.
FORK_LIMIT: Final = 1 << 16
#: The most descriptors that travel with one message (unix(7), SCM_RIGHTS).
MOST_DESCRIPTORS: Final = 253


@attrs.frozen(kw_only=True)
class Prepare(Fields):
    """
    What a template is to have ready. It travels in a memory file, not in the socket.

    :param config: the configuration, as `Config.to_json` has it.
    :param interface: what the application is, if that is known; else `auto`.
    :param preload: whether to import the application.
    :param files: the texts of files that the template may not read, by their names.
    """

    KIND: ClassVar = 1
    config: dict[str, Any]
    interface: str = "auto"
    preload: bool = False
    files: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Fork(Fields):
    """
    The template makes a worker of itself. The descriptors travel with the message.

    :param primary: the pid that the worker's parent is to have.
    :param numbers: what the descriptors are called in the worker's first frame, in their order; the
        first is that of the worker's channel. One more descriptor, before them all, is for the
        worker's output.
    :param folder: where the worker begins, if it is there; None is where the template is.
    """

    KIND: ClassVar = 2
    primary: int
    numbers: list[int]
    folder: str | None = None


@attrs.frozen(kw_only=True)
class Prepared(Fields):
    """
    The template has ready what it was to have.

    :param preloaded: whether the application is imported.
    """

    KIND: ClassVar = 1
    preloaded: bool = False
    protocol: int = PROTOCOL


@attrs.frozen
class Unprepared(Fields):
    """The application cannot be imported before the fork; the template is of no use, and ends."""

    KIND: ClassVar = 2


@attrs.frozen
class Forked(Fields):
    """There is a worker."""

    KIND: ClassVar = 3
    pid: int


@attrs.frozen
class Unforked(Fields):
    """There is no worker."""

    KIND: ClassVar = 4
    why: str


TO_TEMPLATE: Final = language(Prepare, Fork)
FROM_TEMPLATE: Final = language(Prepared, Unprepared, Forked, Unforked)
