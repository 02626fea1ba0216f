"""
Keys that a response carries: which session a server has begun, and which has ended.

A `header:NAME` of the chain is learned from a response's header of that name, a `cookie:NAME` from
the Set-Cookie that sets it; a key that is hashed needs no table, and is not.
"""

from __future__ import annotations

import calendar
import email.utils
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs

from ..memo import entries
from .cookies import unquote_cookie
from .keys import Chain, KeyKind, KeySource

if TYPE_CHECKING:
    from ..http.head import Head

#: How many keys are learned from one response: no server begins more sessions with one answer.
MOST_LEARNED: Final = 8
#: The longest header lines of which it is remembered what they say, in bytes: short ones repeat.
REPEATED: Final = 1024
#: The header whose session a DELETE ends (Model Context Protocol, "Session Management").
_ENDED_BY_DELETE: Final = b"mcp-session-id"
_SET_COOKIE: Final = b"set-cookie"
#: As many digits of a Max-Age are read: with fewer it is thirty thousand years already.
_DIGITS: Final = 12


@attrs.frozen
class Asked:
    """
    What a request says about sessions that its response may end.

    :param cookies: the name and the value of each cookie in it that is learned.
    :param ending: the session that it asks to end.
    """

    cookies: tuple[tuple[bytes, bytes], ...] = ()
    ending: bytes | None = None


#: A request that carries no key that could end.
NOTHING_ASKED: Final = Asked()


@attrs.frozen
class Lesson:
    """
    What a response says about sessions.

    :param begun: the keys that it gives its client, at most `MOST_LEARNED`, each with the seconds
        after which its cookie expires; None if it does not.
    :param ended: the keys that will not come again.
    """

    begun: tuple[tuple[bytes, float | None], ...] = ()
    ended: tuple[bytes, ...] = ()


class Learner:
    """
    Reads responses for the keys of a chain.

    :param chain: the keys; `learns` says whether it has any that a response can carry.
    """

    def __init__(self, chain: Chain) -> None:
        headers = _names(chain, KeyKind.HEADER)
        self._headers = tuple(source.name.lower().encode() for source in headers)
        self._cookies = {source.name.encode(): source for source in _names(chain, KeyKind.COOKIE)}
        looked_for = [*self._headers, *([_SET_COOKIE] if self._cookies else ())]
        self._marks = tuple(b"\r\n%b:" % name for name in looked_for)
        self._deletes = _ENDED_BY_DELETE in self._headers
        self.learns = bool(self._marks)
        self._remembered = functools.lru_cache(entries(1024, REPEATED))(self._teaches)

    def teaches(self, asked: Asked, fields: bytes) -> bool:
        """
        Tell whether a response can say anything (`said`): most do not.

        :param asked: what its request says.
        :param fields: the header lines, with a CR LF before the first.
        """
        read = self._remembered if len(fields) <= REPEATED else self._teaches
        return asked.ending is not None or read(fields)

    def _teaches(self, fields: bytes) -> bool:
        lowered = fields.lower()
        return any(mark in lowered for mark in self._marks)

    def asked(self, head: Head) -> Asked:
        """Read a request, whose response is to be read (`said`)."""
        deletes = self._deletes and head.method == b"DELETE"
        if not (deletes or self._cookies):
            return NOTHING_ASKED
        cookies = [(name, source.extract(head)) for name, source in self._cookies.items()]
        held = tuple((name, value) for name, value in cookies if value)
        ending = head.header(_ENDED_BY_DELETE) if deletes else None
        return Asked(held, ending) if held or ending else NOTHING_ASKED

    def said(self, asked: Asked, status: int, fields: bytes, now: float) -> Lesson:
        """
        Read a response.

        :param asked: what its request says.
        :param fields: the header lines, with a CR LF before the first.
        :param now: seconds since the epoch.
        """
        over = asked.ending if 200 <= status < 300 else None
        lowered = fields.lower()
        begun: dict[bytes, float | None] = {}
        for name in self._headers:
            for value in _values(lowered, fields, name):
                if value:
                    begun[value] = None
                break  # the first one counts, as in a request
        ended: dict[bytes, None] = {}
        if over:
            begun.pop(over, None)  # a server may name the session that it has just ended
            ended[over] = None
        if self._cookies:
            held = dict(asked.cookies)
            for line in _values(lowered, fields, _SET_COOKIE):
                name, value, lifetime = read_set_cookie(line, now)
                if name not in self._cookies:
                    continue
                begun.pop(value, None)
                if value and (lifetime is None or lifetime > 0):
                    begun[value] = lifetime
                elif name in held:
                    ended[held[name]] = None
        # Of several cookies of one name browsers keep the last.
        keys = tuple(begun.items())[-MOST_LEARNED:]
        return Lesson(keys, tuple(key for key in ended if key not in begun))


def _names(chain: Chain, kind: KeyKind) -> Iterator[KeySource]:
    return (source for source in chain if source.kind is kind and not source.hashed)


def _values(lowered: bytes, fields: bytes, name: bytes) -> Iterator[bytes]:
    """Find the values of all header lines of a name, which is in lower case."""
    mark = b"\r\n%b:" % name
    at = lowered.find(mark)
    while at >= 0:
        begin = at + len(mark)
        end = lowered.find(b"\r\n", begin)
        yield fields[begin : end if end >= 0 else len(fields)].strip(b" \t")
        at = lowered.find(mark, begin)


def read_set_cookie(line: bytes, now: float) -> tuple[bytes, bytes, float | None]:
    """
    Read the value of a Set-Cookie header (RFC 6265, section 5.2).

    :param now: seconds since the epoch.
    :returns: the cookie's name, its value as a request's is read, and the seconds after which it
        expires: 0 or less where a server takes a cookie away, None if it says nothing of that.
    """
    pair, *attributes = line.split(b";")
    name, _, value = pair.partition(b"=")
    expires = max_age = None
    for attribute in attributes:
        word, _, text = attribute.partition(b"=")
        word, text = word.strip(b" \t").lower(), text.strip(b" \t")
        if word == b"max-age" and text.removeprefix(b"-").isdigit():
            max_age = float(text[:_DIGITS])
        elif word == b"expires":
            time = _seconds(text)
            expires = expires if time is None else time - now
    lifetime = expires if max_age is None else max_age
    return name.strip(b" \t"), unquote_cookie(value.strip(b" \t")), lifetime


def _seconds(date: bytes) -> float | None:
    """Read a cookie's date, in any of the forms that servers write; None if it cannot be read."""
    try:
        parsed = email.utils.parsedate_tz(date.decode("ascii"))
        return None if parsed is None else calendar.timegm(parsed[:6])
    except (UnicodeDecodeError, ValueError, OverflowError):
        return None
