"""
Text that clients and applications chose, made fit for a terminal, a log and a line.

All that the log, the access log, ``txsticky ctl``, the journal, the metrics and the errors show
goes through here: a key, a path or a user agent is not to move a cursor, forge a line or turn the
direction of what follows.
"""

from __future__ import annotations

import io
import re

#: The control characters C0, DEL and C1 (ECMA-48), line and paragraph separator, the characters
#: that steer the direction of writing (Unicode's Bidi_Control), and halves of surrogate pairs,
#: which are no text and cannot be encoded.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNFIT_IN_LINES = re.compile(_UNFIT.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
#: What would end a field in quotes, or is no ASCII.
_UNFIT_IN_QUOTES = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


def printable(text: str, lines: bool = False) -> str:
    r"""
    Escape what does something instead of being shown, as ``\x1b``; a second time changes nothing.

    :param lines: whether line breaks (``\n``) and tabs stay.
    """
    return (_UNFIT_IN_LINES if lines else _UNFIT).sub(_escaped, text)


def tolerate(stream: object) -> None:
    """Have a stream escape what its encoding does not know, instead of raising."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def quotable(value: bytes) -> str:
    r"""
    Bytes of a client as ASCII for a field in double quotes (Apache's log format).

    Quotes and backslashes are escaped as well, so that the bytes can be told from the text.
    """
    return _UNFIT_IN_QUOTES.sub(_quoted, value.decode("latin-1"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _quoted(found: re.Match[str]) -> str:
    return "\\" + found[0] if found[0] in '"\\' else _escaped(found)
