"""Cookies that are inserted."""

from __future__ import annotations

from http.cookies import SimpleCookie

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.cookies import (
    ATTRIBUTE_DEFAULTS,
    cookie_line,
    cookie_pattern,
    parse_attributes,
    unquote_cookie,
)
from txsticky.core.routing.keys import parse_chain


def line(sticky: str, secure: bool = False) -> bytes:
    """The header line that a source inserts."""
    source = parse_chain(sticky)[0]
    return cookie_line(source.name, source.attributes, "x.1.mac", secure)


class LineTests(SynchronousTestCase):
    """The Set-Cookie line."""

    def test_default(self) -> None:
        """A cookie is for the whole site, out of scripts' reach, and not sent across sites."""
        self.assertEqual(
            line("insert:W"), b"Set-Cookie: W=x.1.mac; Path=/; HttpOnly; SameSite=Lax\r\n"
        )

    def test_secure(self) -> None:
        """Over TLS the cookie is Secure, once."""
        for sticky in ("insert:W", "insert:W;Secure"):
            self.assertEqual(line(sticky, secure=True).count(b"; Secure"), 1)
        self.assertIn(b"; Secure", line("insert:W;Secure", secure=False))

    def test_attributes(self) -> None:
        """The operator's attributes are sent."""
        self.assertEqual(
            line("insert:W;Domain=a.example;Max-Age=60"),
            b"Set-Cookie: W=x.1.mac; Path=/; HttpOnly; SameSite=Lax; Domain=a.example;"
            b" Max-Age=60\r\n",
        )


class AttributeTests(SynchronousTestCase):
    """What the operator may say."""

    def test_blanks_and_case(self) -> None:
        """Blanks and case do not matter, nor does a semicolon at the end."""
        self.assertEqual(
            parse_attributes(" PATH = /a ; sameSITE=strict; "),
            ("Path=/a", "HttpOnly", "SameSite=Strict"),
        )

    def test_silent(self) -> None:
        """Where nothing is said the defaults hold."""
        self.assertEqual(parse_attributes(""), ATTRIBUTE_DEFAULTS)

    def test_refused(self) -> None:
        """What a browser would not understand is refused with a sentence."""
        for text, part in (
            ("Expires=Wed", "no attribute"),
            ("Path=app", "Path cannot be 'app'"),
            ("Path=/a\r\nX: y", "Path cannot be"),
            ("Max-Age=-1", "Max-Age cannot be '-1'"),
            ("Max-Age", "Max-Age cannot be ''"),
            ("SameSite=Maybe", "SameSite cannot be"),
            ("Domain=a b", "Domain cannot be"),
            ("Secure=1", "Secure cannot be '1'"),
            ("Path=/;path=/a", "twice"),
            ("SameSite=None", "without Secure"),
            ("Partitioned", "without Secure"),
        ):
            error = str(self.assertRaises(ValueError, parse_attributes, text))
            self.assertIn(part, error)
            self.assertTrue(error.endswith("."))

    def test_partitioned(self) -> None:
        """A cookie for embedded pages can be asked for."""
        self.assertEqual(
            parse_attributes("SameSite=None;Secure;Partitioned"),
            ("Path=/", "HttpOnly", "SameSite=None", "Secure", "Partitioned"),
        )


class ValueTests(SynchronousTestCase):
    """Values as frameworks write them."""

    def test_blanks_behind(self) -> None:
        """Of what stands behind a value only blanks are not part of it."""
        self.assertEqual(unquote_cookie(b"x! \t "), b"x!")

    def test_one_quote(self) -> None:
        """A quote at one end alone is part of the value."""
        for value in (b'a"', b'"a', b'"'):
            self.assertEqual(unquote_cookie(value), value)

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30))
    @settings(deadline=None)
    def test_python_cookies(self, value: str) -> None:
        """What http.cookies writes is read as it was meant."""
        cookies: SimpleCookie = SimpleCookie()
        cookies["W"] = value
        sent = cookies.output(attrs=[], header="", sep="").strip().encode()
        match = cookie_pattern("W").search(b";x=y; " + sent)
        assert match is not None
        self.assertEqual(unquote_cookie(match["value"]), value.encode())
