"""The asyncio transport that an ASGI server's protocol is given, with a gate behind it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ...transport.gate import Gate


class BufferLimits(Protocol):
    """The limits of a write buffer, in bytes (`asyncio.WriteTransport`)."""

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Tell when the protocol is told to resume, and to pause."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause, and to resume."""


class ProtocolHost(Protocol):
    """
    What `GatedTransport` asks of its host.

    :ivar protocol: the protocol inside.
    :ivar extra: what `get_extra_info` knows.
    """

    protocol: Any
    extra: dict[str, Any]

    @property
    def gate(self) -> Gate:
        """The gate of the connection."""

    @property
    def native(self) -> BufferLimits:
        """The transport outside, as far as its buffer's limits go."""

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""

    def write(self, data: bytes) -> None:
        """Send to the client."""

    def close(self) -> None:
        """Close after what was written."""

    def abort(self) -> None:
        """Close at once."""

    def unsent(self) -> int:
        """Bytes of output that are not in the kernel."""


class GatedTransport(asyncio.Transport):
    """
    The transport of the protocol inside.

    :param host: where its calls go, until it is `over`.
    """

    def __init__(self, host: ProtocolHost) -> None:
        super().__init__()
        self._host: ProtocolHost | None = host
        self._extra: dict[str, Any] = host.extra

    def over(self) -> None:
        """
        Let the host go: the connection is over.

        A protocol keeps its transport, and may be part of a reference cycle for long: an upgrade
        leaves uvicorn's httptools protocol behind in one.
        """
        self._host = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell the addresses of the hand-off, which a proxy may have named."""
        return self._extra.get(name, default)

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._host is None or not self._host.live()

    def close(self) -> None:
        """Close after what was written."""
        if self._host is not None:
            self._host.close()

    def abort(self) -> None:
        """Close at once."""
        if self._host is not None:
            self._host.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the client."""
        if self._host is not None:
            self._host.write(data if isinstance(data, bytes) else bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send the pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Offer no half-close: the connection may have to move."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes that are not in the kernel."""
        host = self._host
        return 0 if host is None else host.unsent() + host.gate.withheld

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Tell when the protocol is told to resume, and to pause."""
        return (0, 0) if self._host is None else self._host.native.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause, and to resume."""
        if self._host is not None and self._host.live():
            self._host.native.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Give the protocol no more, until `resume_reading`."""
        if self._host is not None:
            self._host.gate.pause()

    def resume_reading(self) -> None:
        """Give the protocol bytes again."""
        if self._host is not None and self._host.live():
            self._host.gate.resume()

    def is_reading(self) -> bool:
        """Whether the protocol wants more."""
        return self._host is not None and not self._host.gate.inner_paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Go on with another protocol (an upgrade)."""
        if self._host is not None:
            self._host.protocol = protocol

    def get_protocol(self) -> Any:
        """The protocol inside; None once the connection is over."""
        return None if self._host is None else self._host.protocol
