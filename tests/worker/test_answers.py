"""What goes with responses: the sticky cookie, keys learned, debugging headers."""

from __future__ import annotations

from typing import Any
from unittest import mock

from tests.worker.policies import CLIENT, PLAIN, PolicyCase, head
from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.messages.from_worker import Bind, Free
from txsticky.core.routing.learning import MOST_LEARNED
from txsticky.core.routing.verdict import Keep, place_of


class CookieTests(PolicyCase):
    """The cookie that is inserted."""

    options = {"sticky": "insert:where", "forwarded_allow_ips": "192.0.2.9"}

    def cookie(self, *headers: str, host: str = CLIENT, secure: bool = False) -> bytes:
        """What goes with the response to a request."""
        how = self.whose("/", *headers).how
        return self.answer(head("/", *headers), how, host=host, secure=secure)

    def test_inserted(self) -> None:
        """A client without the cookie gets one that leads here."""
        line = self.cookie().decode()
        self.assertTrue(line.startswith("Set-Cookie: where="), line)
        value = line.partition("=")[2].partition(";")[0]
        self.assertEqual(self.view.router.signer.read(value), 2)
        self.assertNotIn("Secure", line)

    def test_each_minute(self) -> None:
        """All clients of a minute get the same line, later ones another."""
        line = self.cookie()
        self.assertIs(self.policy.additions(head(), CLIENT, False, How.NEW, True)(200, PLAIN), line)
        self.system.reactor.advance(61)
        self.assertNotEqual(self.cookie(), line)

    def test_the_same_again(self) -> None:
        """The response to a request that comes again gets the line of its minute, if it may."""
        additions = self.policy.additions(head(), CLIENT, False, How.NEW, False)
        assert additions is not None
        shared = b"\r\nCache-Control: public\r\n"
        line = additions(200, PLAIN)
        self.assertEqual([additions(200, f) for f in (PLAIN, shared, PLAIN)], [line, b"", line])
        self.system.reactor.advance(61)
        later = additions(200, PLAIN)
        self.assertNotEqual(later, line)
        self.assertEqual(additions(200, PLAIN), later)

    def test_shared_cache(self) -> None:
        """A response that a shared cache may store gets no cookie."""
        for value, added in (
            ("public", False),
            ("max-age=60, Public", False),
            ("s-maxage=5", False),
            ("private", True),
            ("max-age=60", True),
            ("x-public", True),
        ):
            fields = f"\r\nA: public\r\nCache-Control: {value}\r\n".encode()
            self.assertEqual(bool(self.answer(head(), fields=fields)), added, value)

    def test_secure(self) -> None:
        """Over TLS the cookie is one that never leaves TLS."""
        self.assertIn(b"; Secure", self.cookie(secure=True))

    def test_secure_outside(self) -> None:
        """The cookie is Secure if a trusted proxy says that it ends TLS."""
        told = "X-Forwarded-Proto: https"
        self.assertNotIn(b"Secure", self.cookie(told))
        self.assertIn(b"; Secure", self.cookie(told, host="192.0.2.9"))

    def test_has_one(self) -> None:
        """A client with a cookie of this worker gets none."""
        self.assertEqual(self.cookie(f"Cookie: a=b; where={self.tag(2)}"), b"")

    def test_has_another(self) -> None:
        """A client with the cookie of another worker, which must be gone, gets a new one."""
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={self.tag(9)}"))

    def test_forged(self) -> None:
        """A client that has made a cookie of its own gets a new one."""
        forged = self.tag(2)[:-1] + ("A" if self.tag(2)[-1] != "A" else "B")
        self.assertIn(b"Set-Cookie: where=", self.cookie(f"Cookie: where={forged}"))

    def test_over_meanwhile(self) -> None:
        """A key freed here while a connection was on its way for it leads nowhere any more."""
        self.options = {"sticky": "sid,insert:where"}
        super().setUp()
        asked = head("/?sid=mine")
        self.bind(b"mine", 2)
        self.assertEqual(self.answer(asked, How.HIT), b"")
        self.view.free(b"mine")
        self.assertIn(b"Set-Cookie: where=", self.answer(asked, How.HIT))
        self.assertEqual(self.answer(asked, How.HIT, first=False), b"")

    def test_remembered_only_with_it(self) -> None:
        """A request is remembered with what is to be added to its response."""
        plain, has = head("/"), head("/", f"Cookie: where={self.tag(2)}")
        self.serve("/")
        self.serve("/", f"Cookie: where={self.tag(2)}")
        known = self.policy.known
        self.assertTrue(known[plain.raw].additions(200, PLAIN).startswith(b"Set-Cookie: where="))
        self.assertIsNone(known[has.raw].additions)

    def test_of_whom_a_proxy_speaks(self) -> None:
        """What a proxy says of a client, if it is trusted, is no part of what is remembered."""
        self.serve("/", "X-Forwarded-Proto: https")
        self.assertEqual(self.policy.known, {})


class NoCookieTests(PolicyCase):
    """Without an inserted cookie, and nothing to learn."""

    options = {"sticky": "sid,hash:header:X-Room"}

    def test_nothing(self) -> None:
        """Nothing goes with the response."""
        self.assertIsNone(self.policy.additions(head(), CLIENT, False, How.NEW, True))


class DebugTests(PolicyCase):
    """Debugging headers."""

    options = {"debug_headers": True, "sticky": "insert:where"}

    def test_headers(self) -> None:
        """Debugging headers say the worker's slot and the reason, beside the cookie."""
        lines = self.answer(head(), How.MISS).split(b"\r\n")
        self.assertEqual(lines[:2], [b"X-Txsticky-Worker: 5", b"X-Txsticky-Route: MISS"])
        self.assertTrue(lines[2].startswith(b"Set-Cookie: "))
        self.assertEqual(lines[3:], [b""])
        self.bind(b"mine", 2)
        self.assertEqual(self.answer(head("/", "Cookie: where=mine"), How.HIT).count(b"\r\n"), 2)

    def test_not_remembered(self) -> None:
        """With debugging headers no request is remembered."""
        self.serve(f"/?sid={self.tag(2)}", f"Cookie: where={self.tag(2)}")
        self.assertEqual(self.policy.known, {})


class LearnTests(PolicyCase):
    """Keys that responses carry."""

    options = {"sticky": "header:X-Session,cookie:JSESSIONID"}
    SESSION = b"\r\nX-Session: one\r\n"

    def setUp(self) -> None:
        super().setUp()
        self.channel = self.bindings._channel
        self.channel.full = False

    def owner(self, key: bytes) -> int | None:
        """The worker that a key is bound to."""
        return self.view.table.find(key, self.system.clock())

    def said(self) -> list[Any]:
        """What the primary was told."""
        return [call.args[0] for call in self.channel.send.call_args_list]

    def test_header(self) -> None:
        """The key of a response's header is bound, and the response has to wait for it."""
        self.assertEqual(self.answer(head(), fields=self.SESSION), b"")
        self.assertEqual((self.owner(b"one"), self.said()), (2, [Bind(b"one")]))
        self.assertEqual(self.bindings.unconfirmed, 1)

    def test_cookie(self) -> None:
        """The key of a cookie that is set is bound, and the response has to wait for it."""
        self.answer(head(), fields=b"\r\nSet-Cookie: JSESSIONID=two; Path=/\r\n")
        self.assertEqual(self.said(), [Bind(b"two")])

    def test_again(self) -> None:
        """A key that is bound here already is not bound again, nor is one that carries a tag."""
        self.bind(b"one", 2)
        self.answer(head(), fields=self.SESSION)
        self.answer(head(), fields=b"\r\nX-Session: %b\r\n" % self.tag(2).encode())
        self.assertEqual(self.said(), [])

    def test_behind_a_tag(self) -> None:
        """A key is bound though one before it carries a tag."""
        cookie = b"Set-Cookie: JSESSIONID=two\r\n"
        self.answer(head(), fields=b"\r\nX-Session: %b\r\n%b" % (self.tag(2).encode(), cookie))
        self.assertEqual(self.said(), [Bind(b"two")])

    def test_anothers(self) -> None:
        """A key that another worker has bound is this one's then, as with the application's."""
        self.bind(b"one", 3)
        self.answer(head(), fields=self.SESSION)
        self.assertEqual(self.said(), [Bind(b"one")])

    def test_expired(self) -> None:
        """A cookie that is taken away frees the key that the request has brought."""
        self.bind(b"two", 2)
        over = b"\r\nSet-Cookie: JSESSIONID=; Max-Age=0\r\n"
        self.answer(head("/", "Cookie: JSESSIONID=two"), How.HIT, over)
        self.assertEqual((self.owner(b"two"), self.said()), (None, [Free(b"two")]))

    def test_expired_elsewhere(self) -> None:
        """A cookie that is taken away does not free a key that another worker has bound."""
        self.bind(b"two", 3)
        over = b"\r\nSet-Cookie: JSESSIONID=; Max-Age=0\r\n"
        self.answer(head("/", "Cookie: JSESSIONID=two"), How.HIT, over)
        self.assertEqual((self.owner(b"two"), self.said()), (3, []))

    def lasting(self, value: str, seconds: int) -> bytes:
        """A response that sets a cookie for so long."""
        return f"\r\nSet-Cookie: JSESSIONID={value}; Max-Age={seconds}\r\n".encode()

    def test_lasts(self) -> None:
        """A key ends with its cookie, which each response may set anew."""
        self.answer(head(), fields=self.lasting("two", 60))
        self.system.reactor.advance(40)
        self.answer(head("/", "Cookie: JSESSIONID=two"), How.HIT, self.lasting("two", 60))
        self.system.reactor.advance(40)
        self.assertEqual(self.said(), [Bind(b"two")])
        self.system.reactor.advance(20)
        self.assertEqual((self.owner(b"two"), self.said()[1:]), (None, [Free(b"two")]))
        self.assertEqual(self.system.reactor.getDelayedCalls(), [])

    def test_lasts_less(self) -> None:
        """A cookie set for a shorter time ends its key sooner; one without a time ends it never."""
        for seconds in (600, 60):
            self.answer(head(), fields=self.lasting("two", seconds))
        self.answer(head(), fields=self.lasting("three", 60))
        self.answer(head(), fields=b"\r\nSet-Cookie: JSESSIONID=three\r\n")
        self.system.reactor.advance(60)
        self.assertEqual((self.owner(b"two"), self.owner(b"three")), (None, 2))

    def test_lasts_elsewhere(self) -> None:
        """When its cookie ends, a key that another worker has bound since stays."""
        self.answer(head(), fields=self.lasting("two", 60))
        self.bind(b"two", 3)
        self.system.reactor.advance(60)
        self.assertEqual((self.owner(b"two"), self.said()), (3, [Bind(b"two")]))

    def test_thousand(self) -> None:
        """Of a thousand sessions in one response only a few are learned."""
        lines = b"".join(b"Set-Cookie: JSESSIONID=%d\r\n" % n for n in range(1000))
        self.answer(head(), fields=b"\r\n" + lines)
        self.assertEqual(len(self.said()), MOST_LEARNED)

    def test_what_cannot_be_bound(self) -> None:
        """The response leaves also if its key cannot be bound; the log says so once."""
        self.messages: list[Any] = []
        with mock.patch("txsticky.worker.policy.log.warn") as warn:
            long = b"\r\nX-Session: %b\r\n" % (b"x" * 5000)
            self.assertEqual(self.answer(head(), fields=long), b"")
            self.channel.full, self.channel.waiting = True, 1
            self.assertEqual(self.answer(head(), fields=self.SESSION), b"")
        self.assertEqual(warn.call_count, 1)
        self.assertEqual(self.said(), [])

    def test_remembered(self) -> None:
        """Of a remembered request the response is read as well."""
        self.serve("/plain")
        (memo,) = self.policy.known.values()
        assert memo.additions is not None
        memo.additions(200, self.SESSION)
        self.assertEqual(self.said(), [Bind(b"one")])


class DefaultTests(PolicyCase):
    """The chain that stands if the operator says nothing."""

    options = {"listen": ("9001",), "app": "some:app"}

    def test_cookie(self) -> None:
        """A client without a key gets a cookie with the port in its name."""
        self.assertTrue(self.answer(head()).startswith(b"Set-Cookie: txsticky_9001="))
        request = parse_head(b"GET / HTTP/1.1\r\nHost: localhost:8003\r\n\r\n", 65536)
        assert isinstance(request, Head)
        other = self.answer(request)
        self.assertTrue(other.startswith(b"Set-Cookie: txsticky_9001_8003="), other)

    def test_has_a_key(self) -> None:
        """A client whose key leads here gets no cookie."""
        self.bind(b"mcp", 2)
        for request in (
            head(f"/?EIO=4&sid={self.tag(2)}"),
            head("/", f"Cookie: txsticky_9001={self.tag(2)}"),
            head("/", "Mcp-Session-Id: mcp"),
        ):
            verdict = self.policy.whose(request, CLIENT)
            self.assertEqual(place_of(verdict, 2), 2)
            self.assertEqual(self.answer(request, verdict.how), b"")

    def test_mcp(self) -> None:
        """A session of MCP is learned, and ends with its DELETE."""
        self.bindings._channel.full = False
        self.answer(head("/mcp", method="POST"), fields=b"\r\nmcp-session-id: abc\r\n")
        self.assertEqual(self.whose("/mcp", "Mcp-Session-Id: abc"), Keep(How.HIT))
        request = head("/mcp", "Mcp-Session-Id: abc", method="DELETE")
        self.answer(request, How.HIT, status=405)
        self.assertIs(self.whose("/mcp", "Mcp-Session-Id: abc").how, How.HIT)
        self.answer(request, How.HIT, b"\r\nmcp-session-id: abc\r\n")
        self.assertIs(self.whose("/mcp", "Mcp-Session-Id: abc").how, How.MISS)

    def test_strays(self) -> None:
        """The log says once, by one worker, that clients come back without the cookie."""
        for slot, times in ((5, 0), (1, 1)):
            self.view.slot = slot
            with mock.patch("txsticky.worker.policy.log.info") as info:
                for _ in range(40):
                    self.answer(head("/", "User-Agent: curl"))
            self.assertEqual(info.call_count, times)
            super().setUp()

    def test_no_strays(self) -> None:
        """Nothing is logged of requests over one connection, or with a key."""
        self.view.slot = 1
        with mock.patch("txsticky.worker.policy.log.info") as info:
            for _ in range(40):
                self.answer(head(), first=False)
                self.answer(head("/?sid=a"), How.MISS)
        self.assertEqual(info.call_count, 0)


class AloneTests(PolicyCase):
    """The only worker of a cluster."""

    options = {"listen": ("9001",), "app": "some:app"}
    others = ()

    def test_no_strays(self) -> None:
        """Nothing is logged of clients without the cookie, whose requests one worker serves."""
        self.view.slot = 1
        with mock.patch("txsticky.worker.policy.log.info") as info:
            for _ in range(40):
                self.answer(head("/", "User-Agent: curl"))
        self.assertEqual(info.call_count, 0)
