"""
Sticky keys: the parts of a request that identify its client.

A chain of sources is asked in its order. Names are matched exactly, parameters and paths after
percent-decoding; nothing is ever looked for in a body or in a header that no source names.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import attrs

from .cookies import (
    ATTRIBUTE_DEFAULTS,
    TOKEN,
    check_prefix,
    cookie_pattern,
    parse_attributes,
    unquote_cookie,
)

if TYPE_CHECKING:
    from ..http.head import Head


class KeyKind(enum.Enum):
    """The kinds of sources; each value is the word that names it in a chain."""

    SID = "sid"
    QUERY = "query"
    COOKIE = "cookie"
    INSERT = "insert"
    HEADER = "header"
    PATH = "path"
    IP = "ip"
    NONE = "none"


Extract = Callable[["Head"], bytes | None]


@attrs.frozen
class KeySource:
    """
    One source of keys.

    :param kind: where the key stands.
    :param name: of the parameter, cookie or header; of a path, the regular expression.
    :param hashed: whether the key alone decides, by rendezvous.
    :param attributes: of an inserted cookie, in the order and spelling in which they are sent.
    """

    kind: KeyKind
    name: str = ""
    hashed: bool = False
    attributes: tuple[str, ...] = ()
    #: Finds the value in a head; None or empty if there is none. Derived from kind and name.
    extract: Extract = attrs.field(init=False, eq=False, repr=False)

    @extract.default
    def _make_extract(self) -> Extract:
        return _EXTRACTORS[self.kind](self.name)


@attrs.frozen
class FoundKey:
    """
    A key that was found in a request.

    :param value: decoded, never empty.
    :param source: where the key stood.
    """

    value: bytes
    source: KeySource


Chain = tuple[KeySource, ...]


# ------------------------------------------------------------------------ in a request


def found(chain: Chain, head: Head | None, client: str) -> tuple[FoundKey, ...]:
    """
    The keys of a request, in the order of the chain.

    :param head: None if it cannot be read (TLS): only addresses are looked at then.
    :param client: the client's address; empty for a UNIX socket, which gives no key.
    """
    keys = []
    for source in chain:
        if source.kind is KeyKind.IP:
            value: bytes | None = client.encode()
        elif head is None:
            continue
        else:
            value = source.extract(head)
        if value:
            keys.append(FoundKey(value, source))
    return tuple(keys)


def opens_session(chain: Chain, head: Head) -> bool:
    """
    Whether a request opens a new Engine.IO session, which may begin on any worker.

    True only if the first source is ``sid``: the query has ``EIO`` and no ``sid``
    (Engine.IO protocol 4, "Handshake").
    """
    return (
        chain[0].kind is KeyKind.SID
        and b"?" in head.target
        and _EIO(head) is not None
        and _SID(head) is None
    )


def needs_head(chain: Chain) -> bool:
    """Whether some source looks at the request, so that its head has to be read first."""
    return any(source.kind not in (KeyKind.IP, KeyKind.NONE) for source in chain)


def inserted(chain: Chain) -> KeySource | None:
    """The source whose cookie is inserted into responses, if there is one."""
    return next((source for source in chain if source.kind is KeyKind.INSERT), None)


def _unquote(value: bytes) -> bytes:
    if b"%" in value or b"+" in value:
        return unquote_to_bytes(value.replace(b"+", b" "))
    return value


def _from_query(name: str) -> Extract:
    """
    Find the first parameter of this name that has a value, as `urllib.parse.parse_qs` does.

    One search instead of a parse, and the literal ``&`` in front makes it a fast one. The bytes of
    the name may be percent-encoded.
    """
    parts = []
    for byte in name.encode():
        digits = "".join(f"[{x}{x.upper()}]" if x.isalpha() else x for x in f"{byte:02x}")
        encoded = b"%" + digits.encode()
        if byte == ord(" "):
            parts.append(rb"(?:\+|%b)" % encoded)
        elif byte in b"&=+%":
            parts.append(encoded)
        else:
            parts.append(b"(?:%b|%b)" % (re.escape(bytes([byte])), encoded))
    search = re.compile(b"&%b=([^&]+)" % b"".join(parts)).search

    def extract(head: Head) -> bytes | None:
        if b"?" not in head.target:
            return None
        match = search(b"&" + head.query)
        return None if match is None else _unquote(match[1])

    return extract


def _from_cookie(name: str) -> Extract:
    search = cookie_pattern(name).search

    def extract(head: Head) -> bytes | None:
        for header in head.headers(b"cookie"):
            match = search(b";" + header)
            if match is not None:
                return unquote_cookie(match[1])
        return None

    return extract


def _from_header(name: str) -> Extract:
    lowered = name.lower().encode()
    return lambda head: head.header(lowered)


def _from_path(regex: str) -> Extract:
    pattern = re.compile(regex)

    def extract(head: Head) -> bytes | None:
        match = pattern.search(unquote_to_bytes(head.path).decode("utf-8", "surrogateescape"))
        if match is None:
            return None
        value: str | None = match[1 if pattern.groups else 0]
        return None if value is None else value.encode("utf-8", "surrogateescape")

    return extract


def _from_nothing(name: str) -> Extract:
    return lambda head: None


_EXTRACTORS: Final[dict[KeyKind, Callable[[str], Extract]]] = {
    KeyKind.SID: lambda name: _SID,
    KeyKind.QUERY: _from_query,
    KeyKind.COOKIE: _from_cookie,
    KeyKind.INSERT: _from_cookie,
    KeyKind.HEADER: _from_header,
    KeyKind.PATH: _from_path,
    KeyKind.IP: _from_nothing,
    KeyKind.NONE: _from_nothing,
}
_SID: Final[Extract] = _from_query("sid")
_EIO: Final[Extract] = _from_query("EIO")


# ---------------------------------------------------------------- the text of an option

#: A comma separates where a word follows that could name a source, so that a regular expression
#: may hold a comma as in ``{1,3}``; any other comma of a name is written ``\,``.
_SEPARATOR: Final = re.compile(r"(?<!\\),(?=\s*[A-Za-z][\w-]*\s*(?:[:,]|$))")
_BARE: Final = (KeyKind.SID, KeyKind.IP, KeyKind.NONE)
_WORDS: Final = ", ".join(
    kind.value if kind in _BARE else f"{kind.value}:{'REGEX' if kind is KeyKind.PATH else 'NAME'}"
    for kind in KeyKind
)


def parse_chain(text: str) -> Chain:
    r"""
    Read what ``--sticky`` takes.

    :param text: sources with commas between them: ``sid``, ``query:NAME``, ``cookie:NAME``,
        ``insert:NAME`` (with cookie attributes: ``insert:NAME;Max-Age=60``), ``header:NAME``,
        ``path:REGEX`` (its first group, or the whole match), ``ip``, ``none``. ``hash:`` before
        one makes its key decide by rendezvous; ``ip`` always does.
    :raises ValueError: with a sentence that says which source is wrong and what to write.
    """
    chain = tuple(
        _parse_source(element.strip().replace(r"\,", ",")) for element in _SEPARATOR.split(text)
    )
    kinds = [source.kind for source in chain]
    if KeyKind.NONE in kinds and len(kinds) > 1:
        raise ValueError("'none' means that nothing is sticky; it stands alone or not at all.")
    if kinds.count(KeyKind.INSERT) > 1:
        raise ValueError("Only one cookie can be inserted; leave one 'insert:' and make it first.")
    return chain


def _parse_source(text: str) -> KeySource:
    hashed = text.startswith("hash:")
    word, colon, name = text.removeprefix("hash:").partition(":")
    try:
        kind = KeyKind(word)
    except ValueError:
        raise ValueError(
            f"{word!r} is no sticky key; there are {_WORDS}, and 'hash:' before one of them."
        ) from None
    if kind in _BARE and colon:
        raise ValueError(f"{word!r} takes no name; write it alone.")
    if kind not in _BARE and not name:
        raise ValueError(f"{word!r} needs a name; write {word}:NAME.")
    if hashed and kind in (KeyKind.INSERT, KeyKind.NONE):
        raise ValueError(f"{word!r} cannot be hashed; leave 'hash:' away.")
    attributes: tuple[str, ...] = ()
    if kind is KeyKind.INSERT:
        name, semicolon, rest = name.partition(";")
        attributes = parse_attributes(rest) if semicolon else ATTRIBUTE_DEFAULTS
        check_prefix(name, attributes)
    if kind in (KeyKind.COOKIE, KeyKind.INSERT, KeyKind.HEADER) and not TOKEN.fullmatch(name):
        what = "header" if kind is KeyKind.HEADER else "cookie"
        raise ValueError(f"{name!r} cannot be the name of a {what}.")
    try:
        return KeySource(kind, name, hashed or kind is KeyKind.IP, attributes)
    except re.error as error:
        raise ValueError(f"The regular expression {name!r} is not valid: {error}.") from None
