"""Keys that responses carry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import Head, parse_head
from txsticky.core.routing.keys import found, parse_chain
from txsticky.core.routing.learning import (
    MOST_LEARNED,
    NOTHING_ASKED,
    REPEATED,
    Asked,
    Learner,
    Lesson,
    read_set_cookie,
)

NOW = 1_800_000_000.0


def head(*lines: str, method: str = "GET") -> Head:
    """The head of a request."""
    parsed = parse_head("\r\n".join([f"{method} / HTTP/1.1", *lines, "", ""]).encode(), 65536)
    assert isinstance(parsed, Head)
    return parsed


def said(
    sticky: str, *lines: str, asked: Asked = NOTHING_ASKED, status: int = 200
) -> tuple[list[bytes], list[bytes]]:
    """What is learned from a response: the keys that begin, those that end."""
    fields = "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n"
    lesson = Learner(parse_chain(sticky)).said(asked, status, fields, NOW)
    return [key for key, _ in lesson.begun], list(lesson.ended)


class BegunTests(SynchronousTestCase):
    """Sessions that a response begins."""

    def test_what_is_learned(self) -> None:
        """Only a header or a cookie of the chain can be learned, and none that is hashed."""
        for sticky, learns in (
            ("header:A", True),
            ("sid,cookie:A", True),
            ("auto", True),
            ("sid,insert:A,query:a,ip,path:/a", False),
            ("hash:header:A,hash:cookie:B", False),
        ):
            self.assertEqual(Learner(parse_chain(sticky)).learns, learns, sticky)

    def test_header(self) -> None:
        """A header is found in any case, without the blanks around it; the first one counts."""
        self.assertEqual(said("header:X-Id", "A: b", "x-iD: \t a1 "), ([b"a1"], []))
        self.assertEqual(said("header:X-Id", "X-Id: !a! "), ([b"!a!"], []))
        self.assertEqual(said("header:X-Id", "X-Id: a", "X-Id: b"), ([b"a"], []))
        self.assertEqual(said("header:X-Id", "X-Id: ", "Y: X-Id: b", "XX-Id: c"), ([], []))

    def test_cookie(self) -> None:
        """A cookie that is set is read as a request's is."""
        for line, key in (
            ("Set-Cookie: S=a1", b"a1"),
            ("set-cookie: S = a1 ; Path=/; HttpOnly", b"a1"),
            (r'Set-Cookie: S="a\054b"; Max-Age=60', b"a,b"),
            ("Set-Cookie: S=a1; Expires=Fri, 01 Jan 2077 00:00:00 GMT", b"a1"),
        ):
            self.assertEqual(said("cookie:S", line), ([key], []), line)
            value = line.partition("=")[2].partition(";")[0]
            asked = found(parse_chain("cookie:S"), head(f"Cookie: S={value}"), "")
            self.assertEqual([each.value for each in asked], [key])

    def test_other_cookies(self) -> None:
        """Another name, an empty value or a request's cookie is nothing."""
        for line in ("Set-Cookie: s=a", "Set-Cookie: S=", "Set-Cookie: S", "Cookie: S=a"):
            self.assertEqual(said("cookie:S", line), ([], []), line)

    def test_behind_another_cookie(self) -> None:
        """A cookie is found behind one that is not learned."""
        self.assertEqual(said("cookie:S", "Set-Cookie: T=b", "Set-Cookie: S=a"), ([b"a"], []))

    def test_last_line(self) -> None:
        """The last line's value is whole without a line end, too."""
        lesson = Learner(parse_chain("header:X")).said(NOTHING_ASKED, 200, b"\r\nX: abc", NOW)
        self.assertEqual(lesson.begun, ((b"abc", None),))

    def test_taken_back(self) -> None:
        """A cookie that is set and taken away again in one response is not learned."""
        lines = ("Set-Cookie: S=a", "Set-Cookie: S=a; Max-Age=0")
        self.assertEqual(said("cookie:S", *lines), ([], []))

    def test_several(self) -> None:
        """Several keys of a chain are all learned."""
        lines = ("X: a", "Set-Cookie: S=b", "Set-Cookie: T=c", "Y: d")
        self.assertEqual(said("cookie:T,header:X,cookie:S", *lines), ([b"a", b"b", b"c"], []))

    def test_most(self) -> None:
        """Of a thousand cookies the last few are learned, as a browser keeps the last."""
        begun, ended = said("cookie:S", *(f"Set-Cookie: S={n}" for n in range(1000)))
        self.assertEqual(begun, [b"%d" % n for n in range(1000 - MOST_LEARNED, 1000)])
        self.assertEqual(ended, [])

    def test_nothing(self) -> None:
        """A response that says nothing, as most do, need not be read."""
        learner = Learner(parse_chain("auto"))
        for line, teaches in ((b"A: b", False), (b"mcp-session-ID: b", True)):
            for more in (b"", b"X: " + b"x" * 5000 + b"\r\n"):
                fields = b"\r\n" + line + b"\r\n" + more
                self.assertEqual(learner.teaches(NOTHING_ASKED, fields), teaches)
        self.assertTrue(learner.teaches(Asked(ending=b"a"), b"\r\n"))
        self.assertEqual(learner.said(NOTHING_ASKED, 200, b"\r\nA: b\r\n", NOW), Lesson())
        self.assertIs(learner.asked(head("Cookie: a=b")), NOTHING_ASKED)

    def test_remembered(self) -> None:
        """Only short lines are remembered with what they say: long ones would fill the memory."""
        learner = Learner(parse_chain("auto"))
        for size in (REPEATED + 1, REPEATED):
            learner.teaches(NOTHING_ASKED, bytes(size))
        self.assertEqual(learner._remembered.cache_info().currsize, 1)
        learner.teaches(NOTHING_ASKED, bytes(size))
        self.assertEqual(learner._remembered.cache_info().hits, 1)

    @given(st.binary(max_size=60), st.integers(100, 599))
    def test_anything(self, data: bytes, status: int) -> None:
        """Whatever a response says, nothing fails."""
        learner = Learner(parse_chain("header:X,cookie:S"))
        for mark in (b"\r\nX:", b"\r\nSet-Cookie:", b"\r\nset-cookie: S=a; expires="):
            asked = Asked(((b"S", b"held"),), b"over")
            self.assertIsInstance(learner.said(asked, status, mark + data, NOW), Lesson)


class EndedTests(SynchronousTestCase):
    """Sessions that are over."""

    def test_expired_cookie(self) -> None:
        """A cookie that is taken away ends the session that the request has named."""
        asked = Learner(parse_chain("cookie:S")).asked(head("Cookie: S=held"))
        for attributes in (
            "Max-Age=0",
            "max-age=-1",
            "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "expires=Thu, 01-Jan-1970 00:00:00 GMT",
            "Expires=Fri, 01 Jan 2077 00:00:00 GMT; Max-Age=0",
        ):
            for value in ("", "deleted", "held"):
                line = f"Set-Cookie: S={value}; Path=/; {attributes}"
                self.assertEqual(said("cookie:S", line, asked=asked), ([], [b"held"]), line)

    def test_not_expired(self) -> None:
        """A cookie has not expired by a date or an age that is to come, or is nonsense."""
        asked = Learner(parse_chain("cookie:S")).asked(head("Cookie: S=held"))
        for attributes in (
            "Max-Age=1",
            "Max-Age=",
            "Max-Age=x",
            "Max-Age=0!",
            "!Max-Age=0",
            "Version=0",
            "Expires=tomorrow",
            "Expires=Thu, 99 Foo 0000",
            "Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ):
            line = f"Set-Cookie: S=new; {attributes}"
            self.assertEqual(said("cookie:S", line, asked=asked), ([b"new"], []), line)

    def test_emptied(self) -> None:
        """A cookie that is set to nothing is taken away as well."""
        asked = Asked(((b"S", b"held"),))
        self.assertEqual(said("cookie:S", "Set-Cookie: S=", asked=asked), ([], [b"held"]))

    def test_renewed(self) -> None:
        """A session whose cookie is taken away and set again in one response goes on."""
        asked = Asked(((b"S", b"held"),))
        lines = ("Set-Cookie: S=; Max-Age=0", "Set-Cookie: S=held")
        self.assertEqual(said("cookie:S", *lines, asked=asked), ([b"held"], []))
        lines = ("Set-Cookie: S=; Max-Age=0", "Set-Cookie: S=new")
        self.assertEqual(said("cookie:S", *lines, asked=asked), ([b"new"], [b"held"]))

    def test_without_a_cookie(self) -> None:
        """A request without the cookie has nothing to end."""
        self.assertEqual(said("cookie:S", "Set-Cookie: S=; Max-Age=0"), ([], []))

    def test_delete(self) -> None:
        """A DELETE of a session of MCP ends it, if it succeeds, and whatever header comes."""
        learner = Learner(parse_chain("auto"))
        asked = learner.asked(head("Mcp-Session-Id: a", method="DELETE"))
        for status, ended in ((199, []), (200, [b"a"]), (299, [b"a"]), (300, []), (500, [])):
            self.assertEqual(said("auto", asked=asked, status=status), ([], ended))
        self.assertEqual(said("auto", "mcp-session-id: a", asked=asked), ([], [b"a"]))

    def test_other_requests(self) -> None:
        """No other method ends a session of MCP, nor does a DELETE with another header."""
        self.assertIs(Learner(parse_chain("auto")).asked(head("Mcp-Session-Id: a")), NOTHING_ASKED)
        learner = Learner(parse_chain("header:X-Id"))
        for line in ("X-Id: a", "Mcp-Session-Id: a"):
            self.assertIs(learner.asked(head(line, method="DELETE")), NOTHING_ASKED)


class SetCookieTests(SynchronousTestCase):
    """Reading Set-Cookie."""

    def test_last_attribute(self) -> None:
        """The last of several attributes of a name counts."""
        self.assertEqual(read_set_cookie(b"S=a; Max-Age=9; Max-Age=0", NOW)[2], 0)
        self.assertEqual(read_set_cookie(b"S=a; Max-Age=0; Max-Age=9", NOW)[2], 9)

    def test_lifetime(self) -> None:
        """A cookie lasts for its Max-Age, else until it expires, else nothing is known of it."""
        for attributes, seconds in (
            (b"Path=/", None),
            (b"Max-Age=90", 90.0),
            (b"Expires=Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
            (b"Max-Age=90; Expires=Fri, 15 Jan 2027 08:00:30 GMT", 90.0),
            (b"Max-Age=%b" % (b"9" * 5000), 999_999_999_999.0),
        ):
            self.assertEqual(read_set_cookie(b"S=a; " + attributes, NOW)[2], seconds, attributes)

    def test_parts(self) -> None:
        """Name and value are what stands before the first semicolon."""
        self.assertEqual(read_set_cookie(b' S = "x" ;Path=/a=b', NOW), (b"S", b"x", None))
        self.assertEqual(read_set_cookie(b"", NOW), (b"", b"", None))
        self.assertEqual(read_set_cookie(b"!S! = !a! ", NOW), (b"!S!", b"!a!", None))
