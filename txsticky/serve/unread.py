"""
The texts of autobahn's debugging messages, made when such a message is read.

For each connection and each message autobahn makes texts for its log, its options in columns and
names in colours, also where nothing of that is logged. They are more than half of what it does to
open a WebSocket.
"""

from __future__ import annotations

import pprint
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

#: The modules that use these functions for their log alone, but for `pformat` of anything but a
#: list.
_MODULES: Final = ("autobahn.websocket.protocol", "autobahn.twisted.websocket")
_COLOURED: Final = ("hltype", "hlval")


class Unread:
    """
    A text that may never be read.

    :param make: makes the text of the arguments.
    """

    __slots__ = ("_arguments", "_make", "_named")

    def __init__(self, make: Callable[..., str], *arguments: object, **named: object) -> None:
        self._make = make
        self._arguments = arguments
        self._named = named

    def __str__(self) -> str:
        return self._make(*self._arguments, **self._named)

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def leave_unread(modules: Mapping[str, ModuleType] = sys.modules) -> None:
    """
    Have autobahn, if it is loaded, make no text for its log that is not read.

    :param modules: those that are loaded. A function that is not autobahn's own is left there.
    """
    own = modules.get("autobahn.util")
    for module in filter(None, map(modules.get, _MODULES)):
        for name in _COLOURED:
            _replace(module, name, getattr(own, name, None), _unread)
        _replace(module, "pformat", pprint.pformat, _unread_list)


def _replace(module: ModuleType, name: str, own: Any, wrap: Callable[[Any], Any]) -> None:
    if own is not None and getattr(module, name, None) is own:
        setattr(module, name, wrap(own))


def _unread(make: Callable[..., str]) -> Callable[..., Unread]:
    def unread(*arguments: object, **named: object) -> Unread:
        return Unread(make, *arguments, **named)

    return unread


def _unread_list(make: Callable[[object], str]) -> Callable[[object], object]:
    return lambda value: Unread(make, value) if value.__class__ is list else make(value)
