"""Sticky keys."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, quote_from_bytes

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import Head, parse_head
from txsticky.core.routing.keys import (
    AUTO,
    KeyKind,
    KeySource,
    found,
    inserted,
    needs_head,
    opens_session,
    parse_chain,
)


def head(target: bytes = b"/", *lines: bytes) -> Head:
    """The head of a GET."""
    fields = b"".join(line + b"\r\n" for line in lines)
    parsed = parse_head(b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, fields), 1 << 20)
    assert isinstance(parsed, Head), parsed
    return parsed


def keys(sticky: str, target: bytes = b"/", *lines: bytes, client: str = "") -> list[bytes]:
    """The keys that a chain finds in a GET."""
    return [key.value for key in found(parse_chain(sticky), head(target, *lines), client)]


class QueryTests(SynchronousTestCase):
    """Keys in the query."""

    def test_sid(self) -> None:
        """sid is the query parameter sid, wherever it stands."""
        for query in (b"sid=a1", b"EIO=4&sid=a1", b"sid=a1&t=x", b"x&&sid=a1&"):
            self.assertEqual(keys("sid", b"/socket.io/?" + query), [b"a1"])

    def test_decoded(self) -> None:
        """A value is decoded, whichever of the two ways to encode is in it."""
        for text, value in ((b"b%2Fc", b"b/c"), (b"b+c", b"b c"), (b"b%2B+c", b"b+ c")):
            self.assertEqual(keys("query:a", b"/?a=" + text), [value])

    def test_exact_name(self) -> None:
        """No other name that contains sid, in any place, is sid."""
        for query in (
            b"xsid=a1",
            b"sidx=a1",
            b"SID=a1",
            b"a=sid=a1",
            b"a=b;sid=a1",
            b"?sid=a1",
            b"sid%3Da1",
            b"a%26sid=a1",
            b"sid",
            b"sid%00=a1",
        ):
            self.assertEqual(keys("sid", b"/?" + query), [], query)

    def test_decoy_before(self) -> None:
        """A decoy in front does not hide the real one."""
        self.assertEqual(keys("sid", b"/?xsid=decoy&a=sid=decoy&sid=real"), [b"real"])

    def test_encoded(self) -> None:
        """Name and value are percent-decoded, a plus is a blank."""
        self.assertEqual(keys("sid", b"/?s%69d=a%2Db+c%C3%A4%zz"), [b"a-b c\xc3\xa4%zz"])
        self.assertEqual(keys("sid", b"/?%73%69%64=a"), [b"a"])
        self.assertEqual(keys("query:ko", b"/?%6B%6f=a"), [b"a"])

    def test_first_wins(self) -> None:
        """The first parameter that has a value counts, as in parse_qs."""
        self.assertEqual(keys("sid", b"/?sid=&sid=a&sid=b"), [b"a"])

    def test_any_length(self) -> None:
        """A key of one byte and one of 60,000 are found whole."""
        self.assertEqual(keys("sid", b"/?sid=x"), [b"x"])
        self.assertEqual(keys("sid", b"/?sid=" + b"x" * 60000), [b"x" * 60000])

    def test_absolute_form(self) -> None:
        """The query of an absolute-form target counts (RFC 9112, section 3.2.2)."""
        self.assertEqual(keys("sid", b"http://a/socket.io/?sid=a1"), [b"a1"])

    def test_elsewhere(self) -> None:
        """sid= in the path or in a header is nothing."""
        self.assertEqual(keys("sid", b"/sid=a1/&sid=a1", b"X: sid=a1", b"Cookie: sid=a1"), [])
        self.assertEqual(keys("sid", b"/", b"Referer: http://a/?sid=a1"), [])

    def test_any_name(self) -> None:
        """query:NAME takes any name, also one that has to be encoded."""
        self.assertEqual(keys("query:a b&c=%", b"/?a+b%26c%3d%25=1"), [b"1"])
        for name in ("a&b", "a=b", "a+b", "a%b"):
            self.assertEqual(keys("query:" + name, f"/?{name}=1&x".encode()), [], name)
        self.assertEqual(keys("query:a!b", b"/?a!b=1"), [b"1"])
        self.assertEqual(keys("query:größe", b"/?gr%C3%B6%C3%9Fe=1"), [b"1"])
        self.assertEqual(keys("query:a.c", b"/?abc=1"), [])
        self.assertEqual(keys(r"query:a\,ip", b"/?a,ip=1"), [b"1"])

    @given(
        st.text("sid%&=+;69 ä", min_size=1, max_size=6),
        st.text("sid%&=+;369 \u00e4", max_size=40).map(lambda text: quote(text, safe="%&=+;")),
    )
    @example("sid", "s%69d=x")
    @settings(deadline=None, max_examples=200)
    def test_agrees_with_parse_qs(self, name: str, query: str) -> None:
        """The value is what urllib's parse_qs says is the first."""
        expected = parse_qs(query, errors="surrogateescape").get(name, [None])[0]
        source = KeySource(KeyKind.QUERY, name)
        value = source.extract(head(b"/?" + query.encode()))
        self.assertEqual(
            None if value is None else value.decode("utf-8", "surrogateescape"), expected
        )


class CookieTests(SynchronousTestCase):
    """Keys in cookies."""

    def test_named(self) -> None:
        """A cookie is found wherever it stands among others."""
        for cookies in (b"W=a1", b"x=y; W=a1", b"W=a1; x=y", b"x=y;W=a1 ;z", b"x; \tW = a1 "):
            self.assertEqual(keys("cookie:W", b"/", b"Cookie: " + cookies), [b"a1"], cookies)

    def test_exact_name(self) -> None:
        """Names are matched exactly and in their case, never inside a value."""
        for cookies in (b"w=a1", b"xW=a1", b"Wx=a1", b"x=W=a1", b"x=y W=a1", b"W", b"%57=a1"):
            self.assertEqual(keys("cookie:W", b"/", b"Cookie: " + cookies), [], cookies)

    def test_pattern_characters(self) -> None:
        """A name's characters stand for themselves."""
        self.assertEqual(keys("cookie:a.b*", b"/", b"Cookie: aXb=1; a.b*=2"), [b"2"])

    def test_quoted(self) -> None:
        """Quotes are taken off, and Python's escapes with them."""
        for sent, meant in (
            (rb'"a1"', b"a1"),
            (rb'"a\054b\"c\\d"', rb'a,b"c\d'),
            (rb'"a', b'"a'),
            (rb'"', b'"'),
        ):
            self.assertEqual(keys("cookie:W", b"/", b"Cookie: W=" + sent), [meant])

    def test_empty(self) -> None:
        """An empty cookie is no key, and does not hide the next one."""
        for cookies in (b"W=", b"W= ;x=y", b'W=""'):
            self.assertEqual(keys("cookie:W", b"/", b"Cookie: " + cookies), [], cookies)
        self.assertEqual(keys("cookie:W", b"/", b"Cookie: W=; W=a1; W=b1"), [b"a1"])

    def test_several_headers(self) -> None:
        """All Cookie headers are looked at, in their order."""
        lines = (b"Cookie: x=y", b"Accept: W=no", b"cookie: W=a1", b"Cookie: W=b1")
        self.assertEqual(keys("cookie:W", b"/", *lines), [b"a1"])

    def test_only_cookies(self) -> None:
        """The name in the query or in another header is nothing."""
        self.assertEqual(keys("cookie:W", b"/?W=a1", b"W: a1", b"X-Cookie: W=a1"), [])

    def test_inserted(self) -> None:
        """insert finds its cookie as cookie does, and all of that name."""
        self.assertEqual(keys("insert:W;Path=/app", b"/", b"Cookie: W=a1"), [b"a1"])
        lines = (b'Cookie: W=a1; V=b; W=""; W=c1', b"Cookie: W=d1")
        self.assertEqual(keys("insert:W", b"/", *lines), [b"a1", b"c1", b"d1"])

    def test_inserted_many(self) -> None:
        """Of a jar full of inserted cookies only some are looked at; others are no matter."""
        jar = b"Cookie: " + b"; ".join(b"x%d=%d" % (n, n) for n in range(400))
        self.assertEqual(keys("insert:W", b"/", jar + b"; W=a1"), [b"a1"])
        many = b"; ".join(b"W=%d" % n for n in range(1000))
        self.assertEqual(keys("insert:W", b"/", b"Cookie: " + many), [b"%d" % n for n in range(8)])

    def test_inserted_without_a_name(self) -> None:
        """insert without a name finds the cookie of the port that the client has connected to."""
        jar = b"Cookie: txsticky_8080=a; txsticky_8080_90=b; txsticky_80=c; txsticky_8080_9=d"
        source = parse_chain("insert", ("8080", "8081"))
        for host, value in (
            (b"x", b"a"),
            (b"x:8080", b"a"),
            (b"[::1]:8081", b"a"),
            (b"x:90", b"b"),
            (b"x:9", b"d"),
            (b"x:", b"a"),
            (b"[::1]", b"a"),
            (b"x:123456", b"a"),
            (b"x:7", None),
        ):
            request = parse_head(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (host, jar), 9999)
            assert isinstance(request, Head)
            got = [key.value for key in found(source, request, "")]
            self.assertEqual(got, [value] if value else [], host)


class HeaderTests(SynchronousTestCase):
    """Keys in headers."""

    def test_named(self) -> None:
        """A header is found in any case, stripped."""
        self.assertEqual(keys("header:Mcp-Session-Id", b"/", b"mcp-session-id:  a1 "), [b"a1"])

    def test_absent_or_empty(self) -> None:
        """An absent or empty header is no key."""
        self.assertEqual(keys("header:X-Id", b"/?X-Id=a", b"X-Id2: a", b"X-Id: "), [])


class PathTests(SynchronousTestCase):
    """Keys in the path."""

    def test_group(self) -> None:
        """The first group is the key."""
        self.assertEqual(keys("path:^/chat/([^/]+)/", b"/chat/a1/xhr?x=/chat/b/"), [b"a1"])

    def test_whole_match(self) -> None:
        """Without a group the whole match is the key."""
        self.assertEqual(keys("path:^/[a-z]+", b"/room/1"), [b"/room"])

    def test_group_without_part(self) -> None:
        """A group that took no part in the match is no key."""
        self.assertEqual(keys("path:^/(x)?", b"/y"), [])

    def test_decoded(self) -> None:
        """The path is matched percent-decoded; a plus stays a plus."""
        self.assertEqual(keys("path:^/r/(.+)", b"/%72/%C3%A4+b"), ["ä+b".encode()])
        self.assertEqual(keys("path:^/(.)$", b"/%ff"), [b"\xff"])

    def test_no_match(self) -> None:
        """Only the path is looked at."""
        self.assertEqual(keys("path:/chat/(.+)", b"/?x=/chat/a1", b"X: /chat/a1"), [])


class AddressTests(SynchronousTestCase):
    """Keys that are addresses, and none."""

    def test_ip(self) -> None:
        """ip is the client's address and always hashed."""
        (key,) = found(parse_chain("ip"), head(), "192.0.2.1")
        self.assertEqual((key.value, key.source.hashed), (b"192.0.2.1", True))

    def test_unix(self) -> None:
        """A client of a UNIX socket has no address to pin it."""
        self.assertEqual(tuple(found(parse_chain("ip"), head(), "")), ())

    def test_without_head(self) -> None:
        """Without a head only addresses are keys."""
        got = found(parse_chain("sid,cookie:W,path:/,ip"), None, "192.0.2.1")
        self.assertEqual([key.value for key in got], [b"192.0.2.1"])

    def test_none(self) -> None:
        """none finds nothing."""
        self.assertEqual(keys("none", b"/?sid=a", client="192.0.2.1"), [])


class ChainTests(SynchronousTestCase):
    """Several sources."""

    def test_order(self) -> None:
        """Keys come in the order of the chain, not of the request."""
        got = keys("cookie:W,sid,ip", b"/?sid=a1", b"Cookie: W=b1", client="192.0.2.1")
        self.assertEqual(got, [b"b1", b"a1", b"192.0.2.1"])

    def test_needs_head(self) -> None:
        """Only ip and none do without the head."""
        needs = {text: needs_head(parse_chain(text)) for text in ("ip", "none", "sid", "ip,sid")}
        self.assertEqual(needs, {"ip": False, "none": False, "sid": True, "ip,sid": True})

    def test_inserted(self) -> None:
        """The source that inserts is found in the chain."""
        source = inserted(parse_chain("sid,insert:W"))
        self.assertEqual(source and source.name, "W")
        self.assertIsNone(inserted(parse_chain("sid,cookie:W")))

    @given(
        st.binary(max_size=60).map(lambda data: b"/" + quote_from_bytes(data, "?&=%/;+").encode()),
        st.lists(st.tuples(st.sampled_from([b"Cookie", b"X"]), st.binary(max_size=40)), max_size=4),
    )
    @settings(deadline=None, max_examples=200)
    def test_anything(self, target: bytes, lines: list[tuple[bytes, bytes]]) -> None:
        """No request makes a chain fail, and no key is empty."""
        chain = parse_chain("sid,query:x,cookie:W,insert:V,header:X,hash:path:/(.*),ip")
        clean = [b"%b: %b" % (name, value.translate(None, b"\r\n\0")) for name, value in lines]
        for key in found(chain, head(target, *clean), "192.0.2.1"):
            self.assertTrue(key.value)


class OpensSessionTests(SynchronousTestCase):
    """A new Engine.IO session."""

    def opens(self, sticky: str, query: bytes) -> bool:
        """Whether a GET with this query opens a session."""
        return opens_session(parse_chain(sticky), head(b"/socket.io/" + query))

    def test_handshake(self) -> None:
        """EIO without sid opens a session."""
        self.assertTrue(self.opens("sid", b"?EIO=4&transport=polling"))
        self.assertTrue(self.opens("sid,ip", b"?transport=websocket&EIO=4"))

    def test_others(self) -> None:
        """A request with a sid, or without EIO, opens none."""
        for query in (b"", b"?", b"?EIO=4&sid=a", b"?EIO=4&s%69d=a", b"?x=EIO=4", b"?EIO="):
            self.assertFalse(self.opens("sid", query), query)

    def test_other_chains(self) -> None:
        """Where sid is not the first source, no session is known."""
        self.assertFalse(self.opens("cookie:W,sid", b"?EIO=4"))


class ParseTests(SynchronousTestCase):
    """What the operator writes."""

    def refused(self, text: str, *parts: str) -> None:
        """The text is refused with a sentence that has these parts."""
        error = str(self.assertRaises(ValueError, parse_chain, text))
        self.assertTrue(error.endswith("."), error)
        for part in parts:
            self.assertIn(part, error)

    def test_every_kind(self) -> None:
        """Every kind is read with its name."""
        chain = parse_chain("sid, query:a,cookie:b,insert:c,header:d,path:e,ip")
        self.assertEqual(
            [(source.kind.value, source.name) for source in chain],
            [
                ("sid", ""),
                ("query", "a"),
                ("cookie", "b"),
                ("insert", "c"),
                ("header", "d"),
                ("path", "e"),
                ("ip", ""),
            ],
        )

    def test_hashed(self) -> None:
        """Only what is said to be is hashed, and an address always; an inserted cookie never is."""
        chain = parse_chain("insert,cookie:a,hash:cookie:b,ip")
        self.assertEqual([source.hashed for source in chain], [False, False, True, True])
        self.assertFalse(parse_chain("insert:a")[0].hashed)

    def test_hash(self) -> None:
        """hash: before a source hashes it; ip is hashed with and without."""
        chain = parse_chain("hash:sid,hash:query:a,cookie:b,hash:ip,ip")
        self.assertEqual([source.hashed for source in chain], [True, True, False, True, True])
        self.assertEqual(parse_chain("hash:ip"), parse_chain("ip"))

    def test_comma_in_a_regex(self) -> None:
        """A comma that no source follows, or an escaped one, belongs to the regular expression."""
        for text, names in (
            ("path:/([a-z]{1,3})/", ["/([a-z]{1,3})/"]),
            ("path:/a{1,3},ip", ["/a{1,3}", ""]),
            (r"path:/a\,b,sid", ["/a,b", ""]),
            ("sid,path:/(x,y)", ["", "/(x,y)"]),
        ):
            self.assertEqual([source.name for source in parse_chain(text)], names, text)

    def test_unknown_word(self) -> None:
        """An unknown word is refused with the list of the known ones."""
        for text in ("sdi", "", "sid,", "sid,,ip", "hash:", "Sid", "hash:hash:sid"):
            self.refused(text, "no sticky key", "sid, query:NAME", "path:REGEX", "none")

    def test_misspelt_behind_a_path(self) -> None:
        """A misspelt source behind a path is not taken for a part of the regular expression."""
        self.refused("path:/x,ipp", "'ipp'")
        self.refused("path:/x,coookie:W", "'coookie'")

    def test_names(self) -> None:
        """A missing name, a superfluous one, or one that cannot be is refused."""
        for word in ("query", "cookie", "header", "path"):
            self.refused(word, f"write {word}:NAME")
            self.refused(word + ":", f"write {word}:NAME")
        self.refused("insert:", "insert alone")
        self.refused("insert:;Path=/", "insert alone")
        for word in ("sid", "ip", "none"):
            self.refused(word + ":x", "takes no name")
        for text in ("cookie:a b", "header:a:b", "insert:a=b", "header:ä"):
            self.refused(text, "cannot be the name")

    def test_auto(self) -> None:
        """The word auto stands for a chain, and stands alone."""
        self.assertEqual(parse_chain(" auto "), parse_chain(AUTO))
        self.refused("auto,ip", AUTO)
        self.refused("hash:auto", AUTO)

    def test_unnamed_insert(self) -> None:
        """A cookie without a name is named after the place, and takes attributes as any other."""
        for text in ("insert", "sid,insert;Max-Age=60", "insert;Max-Age=60,ip"):
            source = inserted(parse_chain(text, ("127.0.0.1:9000",)))
            assert source is not None
            self.assertEqual(source.name, "txsticky_9000")
            self.assertEqual("Max-Age=60" in source.attributes, ";" in text)
        self.refused("insert;Colour=red", "Colour")

    def test_shared_insert(self) -> None:
        """On several machines the cookie has one name, whatever ports they and clients name."""
        source = inserted(parse_chain("sid,insert;Max-Age=60", None))
        assert source is not None
        self.assertEqual(source.name, "txsticky")
        self.assertIn("Max-Age=60", source.attributes)
        host = head(b"/", b"Host: here:8443", b"Cookie: txsticky=a.x.1.y")
        self.assertEqual(source.suffix(host), b"")
        self.assertEqual([key.value for key in found((source,), host, "")], [b"a.x.1.y"])

    def test_bad_regex(self) -> None:
        """A regular expression that is not valid is refused with the reason."""
        self.refused("path:/(", "'/('", "unterminated subpattern")

    def test_none_alone(self) -> None:
        """none stands alone."""
        self.refused("none,sid", "alone")
        self.refused("hash:none", "hash:")

    def test_one_insert(self) -> None:
        """One cookie is inserted at most, and never hashed."""
        self.refused("insert:a,insert:b", "Only one")
        self.refused("hash:insert:a", "hash:")

    def test_insert_attributes(self) -> None:
        """Attributes are the defaults, or what the operator says."""
        (plain,) = parse_chain("insert:W")
        self.assertEqual(plain.attributes, ("Path=/", "HttpOnly", "SameSite=Lax"))
        (told,) = parse_chain("insert:W;path=/app;samesite=none;Secure;Max-Age=60")
        self.assertEqual(
            told.attributes, ("Path=/app", "HttpOnly", "SameSite=None", "Secure", "Max-Age=60")
        )

    def test_insert_prefix(self) -> None:
        """A cookie whose name promises something to browsers has to keep it."""
        for text, part in (
            ("insert:__Host-w", "without Secure"),
            ("insert:__Secure-w", "without Secure"),
            ("insert:__host-w;Path=/a;Secure", "another Path"),
            ("insert:__Host-w;Domain=a.example;Secure", "Domain"),
        ):
            self.refused(text, part)
        for text in ("insert:__Host-w;Secure", "insert:__Secure-w;Secure;Path=/a", "insert:__w-w"):
            self.assertEqual(len(parse_chain(text)), 1)

    def test_bad_insert_attributes(self) -> None:
        """A bad attribute is refused."""
        self.refused("insert:W;Expires=0", "'Expires'", "Max-Age")

    @given(st.text("sidhaqueryco:,;\\(=/ {}", max_size=30))
    @settings(deadline=None)
    def test_anything(self, text: str) -> None:
        """Any text is a chain or a ValueError."""
        try:
            self.assertTrue(parse_chain(text))
        except ValueError:
            pass
