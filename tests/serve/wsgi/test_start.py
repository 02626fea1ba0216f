"""What applications give to start_response: what is sent, and what is refused."""

from __future__ import annotations

from typing import Any
from wsgiref.util import is_hop_by_hop

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.wsgi.start import response_head

_NAMES = st.text("abcXYZ-_.0", min_size=1, max_size=9)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))


class StatusTests(SynchronousTestCase):
    """The status."""

    def test_code_and_reason(self) -> None:
        """A status is a code and a reason, which may be any text, or missing."""
        for status, expected in (
            ("200 OK", (200, b"OK")),
            ("404", (404, b"Not Found")),
            ("599 ", (599, b"Status")),
            ("418 I'm a caf\xe9", (418, b"I'm a caf\xe9")),
            ("200  much ", (200, b"much")),
        ):
            head = response_head(status, [])
            self.assertEqual((head.status, head.reason), expected)

    def test_none(self) -> None:
        """What is no final status is refused, and so is a status that would begin another line."""
        for status in (
            "",
            "fine",
            "99 Low",
            "2000 OK",
            "200OK",
            "600 High",
            "100 Continue",
            "101 X",
        ):
            self.assertRaises(ValueError, response_head, status, [])
        for status in (
            "200 OK\r\nX-A: 1",
            "200 O\nK",
            "200 \x00",
            "200 O\rK",
            "\u0662\u0660\u0660 OK",
        ):
            self.assertRaises(ValueError, response_head, status, [])
        self.assertRaises(UnicodeEncodeError, response_head, "200 \u0142", [])
        for other in (200, b"200 OK", None):
            self.assertRaises(TypeError, response_head, other, [])

    def test_no_content(self) -> None:
        """Two statuses have no content."""
        found = [code for code in range(200, 600) if response_head(str(code), []).no_content]
        self.assertEqual(found, [204, 304])


class HeaderTests(SynchronousTestCase):
    """The headers."""

    def test_kept(self) -> None:
        """Names and values are sent as they are, in their order, without blanks around them."""
        head = response_head("200 OK", [("X-B", "1"), ("x-a", " \xe9\t"), ("X-B", "2")])
        self.assertEqual(head.headers, ((b"X-B", b"1"), (b"x-a", b"\xe9"), (b"X-B", b"2")))
        self.assertEqual((head.length, head.has), (None, frozenset()))

    def test_own_date_and_server(self) -> None:
        """An application may say what the server would."""
        head = response_head("200 OK", [("DATE", "then"), ("Server", "mine")])
        self.assertEqual(head.has, {"date", "server"})

    @given(_NAMES, _VALUES)
    def test_well_formed(self, name: str, value: str) -> None:
        """What is a name and a value passes, unless the name has a meaning for the server."""
        if is_hop_by_hop(name) or name.lower() == "content-length":
            return
        head = response_head("200 OK", [(name, value)])
        self.assertEqual(head.headers, ((name.encode(), value.encode("latin-1").strip(b" \t")),))

    @given(st.text(max_size=4), st.text(max_size=4))
    def test_no_line_breaks(self, name: str, value: str) -> None:
        """Whatever is given, no text of it begins another line."""
        try:
            head = response_head(f"200 {value}", [(name, value)])
        except ValueError:
            return
        for text in (head.reason, *(part for line in head.headers for part in line)):
            self.assertFalse(set(text) & set(b"\r\n\0"))

    def test_malformed(self) -> None:
        """A name that is none, and control characters, are refused."""
        for name, value in (
            ("", "1"), ("a b", "1"), ("a:", "1"), ("a\n", "1"), ("\xe9", "1"),
            ("a", "1\r\nb: 2"), ("a", "\n"), ("a", "\x00"), ("a", "\x7f"), ("a", "\r"),
        ):  # fmt: skip
            self.assertRaises(ValueError, response_head, "200 OK", [(name, value)])
        self.assertRaises(UnicodeEncodeError, response_head, "200 OK", [("a", "\u0142")])

    def test_types(self) -> None:
        """Headers are pairs of str, whatever they stand in."""
        wrong: Any
        for wrong in (
            [("a", b"1")],
            [(b"a", "1")],
            [("a", 1)],
            [("a",)],
            ["ab"],
            [("a", "1", "2")],
        ):
            self.assertRaises(TypeError, response_head, "200 OK", wrong)
        self.assertEqual(response_head("200 OK", (["a", "1"],)).headers, ((b"a", b"1"),))

    def test_hop_by_hop(self) -> None:
        """What concerns the connection is the server's, and left out."""
        for name in (
            *("Connection", "keep-alive", "Proxy-Connection", "Transfer-Encoding", "upgrade"),
            *("TE", "Trailer", "Trailers", "Proxy-Authenticate", "Proxy-Authorization"),
        ):
            self.assertEqual(response_head("200 OK", [(name, "chunked")]).headers, ())

    def test_close(self) -> None:
        """An application may have the connection closed."""
        head = response_head("200 OK", [("CONNECTION", "Keep-Alive, Close")])
        self.assertEqual(head.headers, ((b"Connection", b"close"),))

    def test_length(self) -> None:
        """There is one Content-Length, a plain number, or none."""
        self.assertEqual(response_head("200 OK", [("content-LENGTH", " 12 ")]).length, 12)
        for value in ("", "-1", "+1", "1,1", "0x1", "1.0", "\u0662", "\xb2"):
            self.assertRaises(ValueError, response_head, "200 OK", [("Content-Length", value)])
        twice = [("Content-Length", "1"), ("Content-Length", "1")]
        self.assertRaises(ValueError, response_head, "200 OK", twice)

    def test_with_length(self) -> None:
        """A length is added where there is none."""
        head = response_head("200 OK", [("a", "1")]).with_length(7)
        self.assertEqual(head.headers, ((b"a", b"1"), (b"Content-Length", b"7")))
        self.assertEqual(head.length, 7)
        self.assertIs(head.with_length(8), head)

    def test_long(self) -> None:
        """What is too long to be remembered is read as well."""
        long = "x" * 5000
        self.assertEqual(response_head("200 OK", [("a", long)]).headers, ((b"a", long.encode()),))
