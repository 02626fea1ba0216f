"""The PROXY protocol."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import NEED_DATA, Malformed
from txsticky.core.http.proxy_protocol import ProxyHeader, parse

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


def version_2(command: int, family: int, body: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def inet(source: str, destination: str, ports: tuple[int, int] = (56324, 443)) -> bytes:
    """The addresses of a header of version 2."""
    return (
        ipaddress.ip_address(source).packed
        + ipaddress.ip_address(destination).packed
        + struct.pack("!HH", *ports)
    )


V2 = version_2(0x21, 0x11, inet("192.0.2.1", "198.51.100.1"))
V2_SIX = version_2(0x21, 0x21, inet("2001:db8::1", "2001:db8::2"))


class Version1Tests(SynchronousTestCase):
    """The line for humans."""

    def test_tcp4(self) -> None:
        """The client is read, and the stream behind the header is left alone."""
        self.assertEqual(
            parse(V1 + REQUEST),
            ProxyHeader(("192.0.2.1", 56324), len(V1)),
        )

    def test_tcp6(self) -> None:
        """IPv6 addresses are read."""
        line = b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n"
        self.assertEqual(parse(line), ProxyHeader(("2001:db8::1", 0), len(line)))

    def test_mapped(self) -> None:
        """An IPv4-mapped address is the IPv4 address that it stands for, in either version."""
        named = ("::ffff:192.0.2.1", "::FFFF:c633:6401")
        line = b"PROXY TCP6 %b %b 56324 443\r\n" % tuple(name.encode() for name in named)
        for data in (
            line,
            version_2(0x21, 0x21, inet(*named)),
            version_2(0x21, 0x22, inet(*named)),
        ):
            header = ProxyHeader(("192.0.2.1", 56324), len(data))
            self.assertEqual(parse(data + REQUEST), header)

    def test_unknown(self) -> None:
        """UNKNOWN names no client, whatever follows it."""
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 x 65535 65535\r\n"):
            self.assertEqual(parse(line + REQUEST), ProxyHeader(None, len(line)))

    def test_longest(self) -> None:
        """A line of 107 bytes is read, a longer one refused as soon as it is that long."""
        longest = b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n"
        self.assertEqual(parse(longest), ProxyHeader(None, 107))
        self.assertIs(parse(longest[:106]), NEED_DATA)
        self.assertIsInstance(parse(b"PROXY UNKNOWN " + b"x" * (107 - 14)), Malformed)

    def test_malformed(self) -> None:
        """A line that is not just so is refused."""
        for line in (
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
            b"PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.256 198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 56324 443\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            b"PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n\r\n",
            b"PROXY UNKNOWN\0\r\n",
            b"PROXY \r\n",
        ):
            self.assertIsInstance(parse(line), Malformed, line)


class Version2Tests(SynchronousTestCase):
    """The binary header."""

    def test_inet(self) -> None:
        """IPv4 and IPv6 addresses are read, over streams and datagrams alike."""
        four = ProxyHeader(("192.0.2.1", 56324), 28)
        six = ProxyHeader(("2001:db8::1", 56324), 52)
        self.assertEqual(parse(V2 + REQUEST), four)
        self.assertEqual(parse(V2_SIX + REQUEST), six)
        self.assertEqual(parse(V2.replace(b"\x21\x11", b"\x21\x12")), four)
        self.assertEqual(parse(V2_SIX.replace(b"\x21\x21", b"\x21\x22")), six)

    def test_tlvs(self) -> None:
        """What lies behind the addresses is skipped, and counts to the size."""
        header = version_2(0x21, 0x11, inet("192.0.2.1", "198.51.100.1") + b"\x01\x00\x02h2")
        self.assertEqual(
            parse(header + REQUEST),
            ProxyHeader(("192.0.2.1", 56324), len(header)),
        )

    def test_local(self) -> None:
        """LOCAL, as of a health check, names no client, whatever family it says."""
        for family, body in ((0x00, b""), (0x11, bytes(12)), (0xFF, b"abc")):
            header = version_2(0x20, family, body)
            self.assertEqual(parse(header + REQUEST), ProxyHeader(None, len(header)))

    def test_nameless(self) -> None:
        """An unspecified family and UNIX sockets name no host."""
        for family, body in (
            (0x00, b""),
            (0x00, b"xyz"),
            (0x31, bytes(216)),
            (0x32, bytes(216)),
            (0x32, bytes(220)),
        ):
            header = version_2(0x21, family, body)
            self.assertEqual(parse(header), ProxyHeader(None, len(header)))

    def test_malformed(self) -> None:
        """Unknown versions, commands and families, and short addresses, are refused at once."""
        for command, family, body in (
            (0x11, 0x11, bytes(12)),
            (0x22, 0x11, bytes(12)),
            (0x21, 0x10, bytes(12)),
            (0x21, 0x41, bytes(12)),
            (0x21, 0x11, bytes(11)),
            (0x21, 0x21, bytes(35)),
            (0x21, 0x31, bytes(215)),
            (0x21, 0x32, bytes(215)),
        ):
            header = version_2(command, family, body)
            self.assertIsInstance(parse(header), Malformed, header)
            self.assertIsInstance(parse(header[:16]), Malformed, header)

    def test_command(self) -> None:
        """An unknown version or command is refused as soon as it has come."""
        self.assertIs(parse(SIGNATURE), NEED_DATA)
        self.assertIsInstance(parse(SIGNATURE + b"\x22"), Malformed)


class BothTests(SynchronousTestCase):
    """What holds for both versions."""

    def test_every_prefix(self) -> None:
        """The verdict on every beginning of a header is that more is needed."""
        for header in (V1, V2, V2_SIX):
            for size in range(len(header)):
                self.assertIs(parse(header[:size]), NEED_DATA, header[:size])

    def test_no_header(self) -> None:
        """A connection without a header is refused with its first wrong byte."""
        for data in (b"G", REQUEST, b"PROXX", b"\r\n\r\nG", b"\x16\x03\x01"):
            verdict = parse(data)
            assert isinstance(verdict, Malformed), data
            self.assertEqual(verdict.status, 400)

    @given(
        st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary(max_size=80)
    )
    @settings(deadline=None, max_examples=200)
    def test_anything(self, begin: bytes, rest: bytes) -> None:
        """Any bytes have a verdict, and it does not change when more come."""
        verdict = parse(begin + rest)
        if verdict is not NEED_DATA:
            self.assertEqual(parse(begin + rest + REQUEST), verdict)
