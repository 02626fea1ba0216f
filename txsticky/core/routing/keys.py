"""
Sticky keys: the parts of a request that identify its client.

A chain of sources is asked in its order. Names are matched exactly, parameters and paths after
percent-decoding; nothing is ever looked for in a body or in a header that no source names.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import attrs

from .cookies import (
    ATTRIBUTE_DEFAULTS,
    TOKEN,
    check_prefix,
    cookie_pattern,
    cookies,
    parse_attributes,
)
from .insertion import SUFFIX, PlaceName

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

#: What ``--sticky auto`` stands for: Socket.IO, MCP over HTTP, and all that keep cookies.
AUTO: Final = "sid,header:Mcp-Session-Id,insert"
#: The name of the cookie that the machines of one service insert; a balancer looks for it.
SHARED: Final = "txsticky"
#: How many cookies of the inserted one's name are looked at: more come only from a broken jar.
_MOST: Final = 8


@attrs.frozen
class KeySource:
    """
    One source of keys.

    :param kind: where the key stands.
    :param name: of the parameter, cookie or header; of a path, the regular expression.
    :param hashed: whether the key alone decides, by rendezvous.
    :param attributes: of an inserted cookie, in the order and spelling in which they are sent.
    :param place: names an inserted cookie to which the operator has given no name, on one machine.
    """

    kind: KeyKind
    name: str = ""
    hashed: bool = False
    attributes: tuple[str, ...] = ()
    place: PlaceName | None = None
    #: Finds the value in a head; None or empty if there is none. Derived from kind and name.
    extract: Extract = attrs.field(init=False, eq=False, repr=False)
    #: What finds the values of an inserted cookie, of which there may be several.
    pattern: re.Pattern[bytes] = attrs.field(init=False, eq=False, repr=False)

    @extract.default
    def _make_extract(self) -> Extract:
        return _EXTRACTORS[self.kind](self.name)

    @pattern.default
    def _make_pattern(self) -> re.Pattern[bytes]:
        return cookie_pattern(self.name, b"" if self.place is None else SUFFIX)

    def suffix(self, head: Head) -> bytes:
        """Tell what the client's port adds to the name of an inserted cookie."""
        return b"" if self.place is None else self.place.suffix(head.header(b"host"))


@attrs.define(unsafe_hash=True)
class FoundKey:
    """
    A key that was found in a request. It is not frozen, as it is made for every connection.

    :param value: decoded, never empty.
    :param source: where the key stood.
    """

    value: bytes
    source: KeySource


Chain = tuple[KeySource, ...]


# ------------------------------------------------------------------------ in a request


def found(chain: Chain, head: Head | None, client: str) -> Iterator[FoundKey]:
    """
    Find the keys of a request, in the order of the chain.

    :param head: None if it cannot be read (TLS): only addresses are looked at then.
    :param client: the client's address; empty for a UNIX socket, which gives no key.
    """
    for source in chain:
        if source.kind is KeyKind.IP:
            value: bytes | None = client.encode()
        elif head is None:
            continue
        elif source.kind is KeyKind.INSERT:
            for each in islice(filter(None, _inserted(source, head)), _MOST):
                yield FoundKey(each, source)
            continue
        else:
            value = source.extract(head)
        if value:
            yield FoundKey(value, source)


def _inserted(source: KeySource, head: Head) -> Iterator[bytes]:
    """Find each cookie of an inserted one's name: a client may keep an older one beside it."""
    suffix: bytes | None = None
    for header in head.headers(b"cookie"):
        if suffix is None:
            suffix = source.suffix(head)
        yield from cookies(source.pattern, header, suffix)


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
    pattern = cookie_pattern(name)

    def extract(head: Head) -> bytes | None:
        for header in head.headers(b"cookie"):
            for value in cookies(pattern, header):
                return value
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
    KeyKind.INSERT: _from_nothing,  # there may be several: `_inserted`
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
_SEPARATOR: Final = re.compile(r"(?<!\\),(?=\s*(?:[A-Za-z][\w-]*\s*(?:[:,]|$)|insert\s*;))")
_BARE: Final = (KeyKind.SID, KeyKind.IP, KeyKind.NONE)
_WORDS: Final = "auto, " + ", ".join(
    kind.value if kind in _BARE else f"{kind.value}:{'REGEX' if kind is KeyKind.PATH else 'NAME'}"
    for kind in KeyKind
)
_AUTO: Final = "auto"
_UNHASHED: Final = "{!r} cannot be hashed; leave 'hash:' away."


def parse_chain(text: str, listen: Sequence[str] | None = ("8080",)) -> Chain:
    r"""
    Read what ``--sticky`` takes.

    :param text: sources with commas between them: ``sid``, ``query:NAME``, ``cookie:NAME``,
        ``insert`` or ``insert:NAME`` (with cookie attributes: ``insert:NAME;Max-Age=60``),
        ``header:NAME``, ``path:REGEX`` (its first group, or the whole match), ``ip``, ``none``.
        ``hash:`` before one makes its key decide by rendezvous; ``ip`` always does. ``auto``
        stands alone, for `AUTO`.
    :param listen: where the cluster listens, as ``--listen`` takes it: it names the cookie that
        ``insert`` gives no name. None if the cluster is one of several machines, which share the
        cookie `SHARED`.
    :raises ValueError: with a sentence that says which source is wrong and what to write.
    """
    place = None if listen is None else PlaceName.of(listen)
    elements = _SEPARATOR.split(AUTO if text.strip() == _AUTO else text)
    chain = tuple(_parse_source(e.strip().replace(r"\,", ","), place) for e in elements)
    kinds = [source.kind for source in chain]
    if KeyKind.NONE in kinds and len(kinds) > 1:
        raise ValueError("'none' means that nothing is sticky; it stands alone or not at all.")
    if kinds.count(KeyKind.INSERT) > 1:
        raise ValueError("Only one cookie can be inserted; leave one 'insert:' and make it first.")
    return chain


def _parse_source(text: str, place: PlaceName | None) -> KeySource:
    hashed = text.startswith("hash:")
    word, colon, name = text.removeprefix("hash:").partition(":")
    if word.partition(";")[0] == KeyKind.INSERT.value:
        return _parse_insert(text, hashed, place)
    if word == _AUTO:
        raise ValueError(f"'auto' stands alone; write {AUTO!r} to add to it.")
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
    if hashed and kind is KeyKind.NONE:
        raise ValueError(_UNHASHED.format(word))
    if kind in (KeyKind.COOKIE, KeyKind.HEADER):
        _check_name(name, kind.value)
    try:
        return KeySource(kind, name, hashed or kind is KeyKind.IP)
    except re.error as error:
        raise ValueError(f"The regular expression {name!r} is not valid: {error}.") from None


def _parse_insert(text: str, hashed: bool, place: PlaceName | None) -> KeySource:
    """Read ``insert``, with a name and attributes or without."""
    if hashed:
        raise ValueError(_UNHASHED.format("insert"))
    said, semicolon, rest = text.partition(";")
    _, colon, name = said.partition(":")
    attributes = parse_attributes(rest) if semicolon else ATTRIBUTE_DEFAULTS
    if not colon:
        unnamed = SHARED if place is None else place.name
        return KeySource(KeyKind.INSERT, unnamed, attributes=attributes, place=place)
    if not name:
        raise ValueError("'insert:' needs a name; write insert:NAME, or insert alone.")
    _check_name(name, "cookie")
    check_prefix(name, attributes)
    return KeySource(KeyKind.INSERT, name, attributes=attributes)


def _check_name(name: str, what: str) -> None:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a {what}.")
