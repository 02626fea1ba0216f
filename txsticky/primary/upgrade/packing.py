"""How the state of an upgrade is written: bytes and connections as JSON values."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping
from typing import Any, Final

from ...core.messages.handoff import pack_replay, unpack_replay
from ...core.messages.origin import Origin
from ...intake.arrival import Arrival
from ...system.descriptors import own

#: The form of the state: a program does not take up what it does not understand.
FORM: Final = 3
#: The forms that this program takes up. Version 0.1.0 writes form 2, whose fleet has another name
#: for the start's time, and which knows neither the working directory nor a first start.
KNOWN_FORMS: Final = (2, 3)


class Descriptors:
    """The descriptors that a state names, in their order: the next program inherits them."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, descriptor: int) -> int:
        """Have a descriptor inherited; -1 is none. Returns it."""
        if descriptor >= 0:
            self.kept.append(descriptor)
        return descriptor


def pack(data: bytes) -> str:
    """Bytes as a JSON value."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """Undo `pack`."""
    return base64.b64decode(text)


def pack_arrival(arrival: Arrival, descriptors: Descriptors) -> dict[str, Any]:
    """A connection in the primary's hands, as JSON values."""
    origin = arrival.origin
    return {
        "sock": descriptors.keep(arrival.sock.fileno()),
        "peer": origin.peer,
        "host": origin.host,
        "secure": origin.secure,
        "data": pack(arrival.data),
        "hops": arrival.hops,
        "idle": arrival.idle,
        "proxied": arrival.proxied,
        **({} if arrival.replay is None else {"replay": pack(pack_replay(arrival.replay))}),
    }


def unpack_arrival(fields: Mapping[str, Any]) -> Arrival:
    """Undo `pack_arrival`. The head is looked for anew."""
    return Arrival(
        socket.socket(fileno=own(fields["sock"])),
        Origin(tuple(fields["peer"]), tuple(fields["host"]), fields["secure"]),
        data=unpack(fields["data"]),
        hops=fields["hops"],
        idle=fields["idle"],
        proxied=fields["proxied"],
        replay=unpack_replay(unpack(fields["replay"]))[0] if "replay" in fields else None,
    )
