"""
Where the messages of a WebSocket begin and end, in one direction (RFC 6455, section 5).

Nothing is decoded: only the heads of frames are read.  What RFC 6455 does not allow is for the
server inside to judge; here it only means that the end of a message is not certain any more.
"""

from __future__ import annotations

from typing import Final

_CLOSE: Final = 8
_TEXT: Final = 1
_BINARY: Final = 2
#: The longest payload of a control frame, in bytes (section 5.5).
_CONTROL_MOST: Final = 125
#: First bytes of a message in one frame.
_PLAIN: Final = frozenset({0x81, 0x82})
_COMPRESSED: Final = _PLAIN | {0xC1, 0xC2}
#: Codes of close frames (section 7.4.1, and the registry that it opens).
SERVICE_RESTART: Final = 1012


def close_frame(code: int) -> bytes:
    """A server's close frame without a reason (section 5.5.1)."""
    return b"\x88\x02" + code.to_bytes(2, "big")


class Frames:
    """
    Follows one direction.

    :param masked: whether payloads are masked: a client's are, a server's are not (section 5.1).
    :param compressed: whether a message may be compressed (RFC 7692, section 6: the first
        reserved bit of its first frame).
    :ivar messages: how many messages have ended.
    :ivar over: whether nothing is followed any more: a close frame was seen, or what section 5 does
        not allow.
    """

    __slots__ = (
        "_begun",
        "_fragments",
        "_head_size",
        "_last",
        "_left",
        "_masked",
        "_rsv1",
        "_whole",
        "messages",
        "over",
    )

    def __init__(self, masked: bool, compressed: bool = False) -> None:
        self.messages = 0
        self.over = False
        self._masked = masked
        self._rsv1 = compressed
        self._whole = _COMPRESSED if compressed else _PLAIN
        self._head_size = 6 if masked else 2  # of a short frame
        #: The beginning of a frame's head that came in pieces.
        self._begun = b""
        #: Bytes of the present frame that are still to come, and whether a message ends with it.
        self._left = 0
        self._last = False
        #: Whether a message has begun whose last frame has not.
        self._fragments = False

    @property
    def between(self) -> bool:
        """Whether no message and no frame has begun that has not ended."""
        return not (self._left or self._begun or self._fragments)

    def feed(self, data: bytes) -> None:
        """Follow the next bytes."""
        size = len(data)
        if self._left:
            self._left -= size
            if self._left > 0:
                return
            if not self._left:
                self._ended()
                return
            self._left += size
        elif size >= 4 and not (self.over or self._begun or self._fragments):
            # The short cut: a message in one frame, of which all has come, or the beginning.
            second = data[1]
            if data[0] in self._whole and (second > 0x7F) is self._masked:
                least, length = 0, second & 0x7F
                if length == 126:
                    least, length = 128, (data[2] << 8 | data[3]) + 2
                if least <= length != 127:
                    left = length + self._head_size - size
                    if not left:
                        self.messages += 1
                        return
                    if left > 0 and size > 8:
                        self._left, self._last = left, True
                        return
        self._follow(data, False)

    def feed_message(self, data: bytes) -> int:
        """
        Follow the next bytes up to where `between` becomes true.

        :returns: the index behind the bytes that were followed; all, if there is no such place.
        """
        return self._follow(data, True)

    def _follow(self, data: bytes, once: bool) -> int:
        at, end = 0, len(data)
        while at < end and not self.over:
            if not self._left:
                at = self._head(data, at)
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                at += taken
                if not self._left:
                    self._ended()
            if once and not (self._left or self._begun or self._fragments):
                return at
        return end

    def _head(self, data: bytes, at: int) -> int:
        """Read the head of the frame at ``data[at:]``; returns the index behind what there is."""
        before = len(self._begun)
        head = self._begun + data[at : at + 14 - before]
        if len(head) < 2:
            self._begun = head
            return len(data)
        first, second = head[0], head[1]
        size = second & 0x7F
        wide = 0 if size < 126 else 2 if size == 126 else 8
        length = 2 + wide + (4 if self._masked else 0)
        if not self._allowed(first, second):
            self.over = True
            return at
        if len(head) < length:
            self._begun = head
            return len(data)
        self._begun = b""
        if wide:
            size = int.from_bytes(head[2 : 2 + wide], "big")
            if size >= 1 << 63 or size < (126 if wide == 2 else 1 << 16):
                self.over = True
                return at
        self._left = size
        opcode = first & 0x0F
        self._last = opcode < _CLOSE and first >= 0x80
        if opcode < _CLOSE:
            self._fragments = first < 0x80
        if not size:
            self._ended()
        self.over = opcode == _CLOSE
        return at + length - before

    def _allowed(self, first: int, second: int) -> bool:
        """Whether these may be the first two bytes of a frame here."""
        opcode, reserved = first & 0x0F, first & 0x70
        if (second >= 0x80) is not self._masked:
            return False
        if opcode >= _CLOSE:
            short = second & 0x7F <= _CONTROL_MOST
            return opcode <= _CLOSE + 2 and first >= 0x80 and not reserved and short
        if opcode == 0:
            return self._fragments and not reserved
        plain = not reserved or (self._rsv1 and reserved == 0x40)
        return opcode in (_TEXT, _BINARY) and not self._fragments and plain

    def _ended(self) -> None:
        """Take note that a frame has ended, and perhaps a message with it."""
        if self._last:
            self._last = False
            self.messages += 1
