"""Cookies (RFC 6265): one is found in a request, one is inserted into a response."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

#: A name of a cookie or header (RFC 9110, section 5.6.2).
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


# ------------------------------------------------------------------------ in a request

_ESCAPED: Final = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)


def cookie_pattern(name: str, suffix: bytes = b"") -> re.Pattern[bytes]:
    """
    What finds a cookie's value in ``;`` + a Cookie header (RFC 6265, section 5.4).

    The first that is not empty counts; names are case-sensitive.

    :param suffix: a regular expression for what may follow the name; the group `suffix` has it.
    """
    return re.compile(
        rb";[ \t]*%b(?P<suffix>%b)[ \t]*=[ \t]*(?P<value>[^; \t][^;]*)"
        % (re.escape(name).encode(), suffix)
    )


def cookies(pattern: re.Pattern[bytes], header: bytes, suffix: bytes = b"") -> Iterator[bytes]:
    """
    Find the values of all cookies of a name in a Cookie header.

    Browsers send several that were set for several paths or domains (RFC 6265, section 5.4).

    :param pattern: made by `cookie_pattern`.
    :param suffix: what has to follow the name.
    """
    for found in pattern.finditer(b";" + header):
        if found["suffix"] == suffix:
            yield unquote_cookie(found["value"])


def unquote_cookie(value: bytes) -> bytes:
    r"""
    The value without the blanks behind it, and without quotes and escapes if it is quoted.

    Python's `http.cookies`, and so most frameworks, write ``\\054`` for a comma.
    """
    value = value.rstrip(b" \t")
    if len(value) < 2 or value[:1] != b'"' or value[-1:] != b'"':
        return value
    value = value[1:-1]
    if b"\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: found[2] or bytes([int(found[1], 8)]), value)


# ----------------------------------------------------------------------- in a response

#: What an inserted cookie says of itself when the operator says nothing.
ATTRIBUTE_DEFAULTS: Final = ("Path=/", "HttpOnly", "SameSite=Lax")

# Name in lower case -> (as it is sent, what its value may be; None: it takes none).
_ATTRIBUTES: Final[dict[str, tuple[str, re.Pattern[str] | None]]] = {
    "path": ("Path", re.compile(r"/[!-:<-~]*")),
    "domain": ("Domain", re.compile(r"\.?[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*")),
    "max-age": ("Max-Age", re.compile(r"[1-9][0-9]*")),
    "samesite": ("SameSite", re.compile(r"Strict|Lax|None", re.IGNORECASE)),
    "httponly": ("HttpOnly", None),
    "secure": ("Secure", None),
    "partitioned": ("Partitioned", None),
}


def parse_attributes(text: str) -> tuple[str, ...]:
    """
    Read the attributes of a cookie that is to be inserted; the defaults hold where it is silent.

    :param text: e.g. ``Path=/app; Max-Age=3600; SameSite=None; Secure``.
    :raises ValueError: with a sentence that says which attribute is wrong.
    """
    chosen = dict(attribute.partition("=")[::2] for attribute in ATTRIBUTE_DEFAULTS)
    said: set[str] = set()
    for part in filter(str.strip, text.split(";")):
        word, _, value = (piece.strip() for piece in part.partition("="))
        name, allowed = _ATTRIBUTES.get(word.lower(), (word, None))
        if word.lower() not in _ATTRIBUTES:
            known = ", ".join(name for name, _ in _ATTRIBUTES.values())
            raise ValueError(f"{word!r} is no attribute of a cookie; there are {known}.")
        if name in said:
            raise ValueError(f"The cookie attribute {name} is given twice.")
        if value if allowed is None else not allowed.fullmatch(value):
            raise ValueError(f"The cookie attribute {name} cannot be {value!r}.")
        said.add(name)
        chosen[name] = value.capitalize() if name == "SameSite" else value
    if (chosen["SameSite"] == "None" or "Partitioned" in chosen) and "Secure" not in chosen:
        raise ValueError("Browsers drop a SameSite=None or Partitioned cookie without Secure.")
    return tuple(f"{name}={value}" if value else name for name, value in chosen.items())


def check_prefix(name: str, attributes: tuple[str, ...]) -> None:
    """
    See whether a cookie keeps what the prefix of its name promises.

    :raises ValueError: browsers would drop it, says a sentence.
    """
    prefix = name[: name.find("-") + 1].lower()
    if prefix in ("__secure-", "__host-") and "Secure" not in attributes:
        raise ValueError(f"Browsers drop a cookie {name} without Secure.")
    if prefix == "__host-" and (
        "Path=/" not in attributes or any(text.startswith("Domain=") for text in attributes)
    ):
        raise ValueError(f"Browsers drop a cookie {name} with a Domain, or another Path than /.")


def cookie_line(name: str, attributes: Sequence[str], value: str, secure: bool) -> bytes:
    """
    Make the header line that inserts a cookie.

    :param name: of the cookie.
    :param attributes: in the order and spelling in which they are sent (`parse_attributes`).
    :param value: a tagged value, which needs no quoting.
    :param secure: whether the client speaks TLS; the cookie then never leaves it.
    """
    if secure and "Secure" not in attributes:
        attributes = (*attributes, "Secure")
    return f"Set-Cookie: {name}={value}; {'; '.join(attributes)}\r\n".encode()
