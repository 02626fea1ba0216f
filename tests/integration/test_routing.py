"""Which worker a request goes to: what pins it, what only looks like it, and the balancers."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable

from tests.integration import rawws
from tests.integration.cluster import ClusterTestCase
from tests.integration.converse import Script, converse, whole
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Reader, Response, payload, request


class Routing(ClusterTestCase):
    """What the tests of this module ask."""

    def worker(self, response: Response) -> int:
        """The number of the worker that answered 200."""
        self.assertEqual(response.status, 200, response)
        return int(response.header("x-worker") or 0)

    def workers_of(self, streams: Iterable[bytes]) -> list[int]:
        """The worker that answers each of these requests, each on a connection of its own."""
        scripts = [Script((stream,), enough=whole()) for stream in streams]
        outcomes = converse(self.cluster.port, scripts, parallel=20)
        return [self.worker(Reader.over(outcome.data).response()) for outcome in outcomes]

    def pinned(self, *streams: bytes) -> int:
        """The one worker that answers all of these requests, every time."""
        workers = self.workers_of(streams * 4)
        self.assertEqual(len(set(workers)), 1, workers)
        return workers[0]

    def free(self, *streams: bytes) -> None:
        """Assert that more than one worker answers these requests: nothing in them pins."""
        until(lambda: len(set(self.workers_of(streams * 12))) > 1, 10, f"{streams} is not pinned")


class SessionIds(Routing):
    """`--sticky sid`, the default: a tagged id names its worker, another stays where it was."""

    workers = 3

    def test_a_tag_names_its_worker(self) -> None:
        """An id comes back to the worker that minted it, on any connection, with any method."""
        for slot, sid in self.cluster.tags().items():
            asked = [
                request("GET", f"/?sid={sid}"),
                request("GET", f"/socket.io/?EIO=4&transport=polling&t=x&sid={sid}"),
                request("POST", f"/?a=1&sid={sid}&b=2", body=payload(1000)),
                request("PUT", f"/?sid={sid}", chunks=[payload(100_000)]),
                request("OPTIONS", f"/?sid={sid}"),
                request("GET", f"http://cluster.test/x?sid={sid}"),
            ]
            self.assertEqual(self.pinned(*asked), slot)

    def test_percent_encoding(self) -> None:
        """A key is found behind percent-encoding in its name and in its value."""
        for slot, sid in self.cluster.tags().items():
            encoded = "".join(f"%{ord(letter):02x}" for letter in sid)
            asked = [f"/?s%69d={sid}", f"/?sid={encoded}", f"/?%73%69%64={encoded}"]
            self.assertEqual(self.pinned(*(request("GET", target) for target in asked)), slot)

    def test_the_first_parameter_wins(self) -> None:
        """Of two sid parameters the first counts, as it does for the application."""
        tags = self.cluster.tags()
        for slot, other in ((1, 2), (2, 3), (3, 1)):
            target = f"/?sid={tags[slot]}&sid={tags[other]}"
            self.assertEqual(self.pinned(request("GET", target)), slot)

    def test_decoys_in_the_target(self) -> None:
        """Parameters whose names only contain the key's, and a sid in the path, do not pin."""
        sid = self.cluster.tag(2)
        for decoy in (f"?xsid={sid}", f"?sidx={sid}", f"?x=sid={sid}", f"?SID={sid}", f"sid={sid}"):
            self.free(request("GET", f"/{decoy}"))

    def test_a_decoy_beside_the_key(self) -> None:
        """A decoy in front of the key does not hide it."""
        tags = self.cluster.tags()
        for slot, other in ((1, 2), (2, 3), (3, 1)):
            target = f"/sid={tags[other]}/?xsid={tags[other]}&sid={tags[slot]}&sidx={tags[other]}"
            self.assertEqual(self.pinned(request("GET", target)), slot)

    def test_decoys_in_headers(self) -> None:
        """A sid in any header field does not pin, and does not hide the one in the query."""
        tags = self.cluster.tags()
        headers = [
            ("Referer", f"http://cluster.test/?sid={tags[2]}"),
            ("Cookie", f"sid={tags[2]}; io={tags[2]}"),
            ("sid", tags[2]),
            ("X-Original", f"GET /?sid={tags[2]} HTTP/1.1"),
        ]
        self.free(request("GET", "/", headers=headers))
        self.assertEqual(self.pinned(request("GET", f"/?sid={tags[1]}", headers=headers)), 1)

    def test_decoys_in_the_body(self) -> None:
        """A sid in a body does not pin, though it arrives with the head."""
        sid = self.cluster.tag(2)
        for body in (f"sid={sid}", f"GET /?sid={sid} HTTP/1.1\r\nHost: cluster.test\r\n\r\n"):
            self.free(request("POST", "/", body=body.encode()))
            self.free(request("POST", "/", chunks=[body.encode()]))

    def test_ids_of_any_length(self) -> None:
        """Tagged ids of 1 to 4000 characters come back to their worker."""
        for length in (1, 5, 19, 20, 21, 500, 4000):
            answer = json.loads(self.cluster.get(f"/cluster/mint?ident={'i' * length}").body)
            asked = request("GET", f"/?sid={answer['told']}")
            self.assertEqual(self.pinned(asked), int(answer["worker"]), length)

    def test_foreign_ids(self) -> None:
        """An id that no worker here minted goes to one worker, whatever it looks like."""
        for sid in ("a", "0" * 20, "x" * 2000, "%C3%A9", "a.b~c-d_e", "%00%0a"):
            self.pinned(request("GET", f"/?sid={sid}"))

    def test_forged_tags(self) -> None:
        """An id with a changed character is a foreign one: answered, always in one place."""
        sid = self.cluster.tag(2)
        for at in range(0, len(sid), 5):
            forged = sid[:at] + ("A" if sid[at] != "A" else "B") + sid[at + 1 :]
            self.pinned(request("GET", f"/?sid={forged}"))

    def test_foreign_ids_spread(self) -> None:
        """Sixty different foreign ids use all workers."""
        asked = [request("GET", f"/?sid=session-{number}") for number in range(60)]
        self.assertEqual(set(self.workers_of(asked)), {1, 2, 3})

    def test_new_sessions_spread(self) -> None:
        """Engine.IO requests without an id start new sessions, so they are balanced."""
        asked = request("GET", "/socket.io/?EIO=4&transport=polling")
        seen: set[int] = set()
        until(lambda: seen.update(self.workers_of([asked] * 12)) or len(seen) == 3, 10, "all used")

    def test_bound_keys(self) -> None:
        """A key that the application bound comes back to the worker that bound it."""
        for number in range(12):
            response = self.cluster.get(f"/cluster/bind?key=bound-{number}")
            slot = self.worker(response)
            self.assertEqual(self.pinned(request("GET", f"/?sid=bound-{number}")), slot)

    def test_bound_before_the_answer(self) -> None:
        """Binding takes effect before the answer leaves: the very next request finds its worker."""
        for number in range(40):
            slot = self.worker(self.cluster.get(f"/cluster/bind?key=race-{number}"))
            self.assertEqual(self.worker(self.cluster.get(f"/?sid=race-{number}")), slot)


class Keys(Routing):
    """One chain of all other kinds: the first that a request has is its key."""

    workers = 3
    options = ("--sticky", r"query:room,cookie:user,header:X-User,path:^/doc/(\w+)")

    def places(self, value: str) -> dict[str, bytes]:
        """Put a value in each of the places where a key may stand."""
        return {
            "query": request("GET", f"/?a=b&room={value}"),
            "cookie": request("GET", "/", headers=[("Cookie", f"a=b; user={value}; c=d")]),
            "header": request("GET", "/", headers=[("x-user", value)]),
            "path": request("GET", f"/doc/{value}"),
        }

    def test_the_same_value_stays(self) -> None:
        """A value stays with one worker, for each kind of key."""
        for asked in self.places("v1").values():
            self.pinned(asked)

    def test_values_spread(self) -> None:
        """Sixty values use all workers, for each kind of key."""
        for kind in self.places(""):
            asked = [self.places(f"value{number}")[kind] for number in range(60)]
            self.assertEqual(set(self.workers_of(asked)), {1, 2, 3}, kind)

    def test_tags(self) -> None:
        """A minted id names its worker in the query, in the cookie and in the header."""
        for slot, sid in self.cluster.tags().items():
            places = self.places(sid)
            for kind in ("query", "cookie", "header"):
                self.assertEqual(self.pinned(places[kind]), slot, kind)

    def test_a_tag_counts_in_any_key(self) -> None:
        """A tag in a later key of the chain goes before an unknown value in an earlier one."""
        for slot, sid in self.cluster.tags().items():
            headers = [("Cookie", f"user={sid}")]
            self.assertEqual(self.pinned(request("GET", "/?room=unknown", headers=headers)), slot)

    def test_decoys(self) -> None:
        """Cookies, header fields and paths that only contain a key's name do not pin."""
        sid = self.cluster.tag(2)
        for headers in (
            [("Cookie", f"xuser={sid}; userx={sid}")],
            [("Cookie", f"a=user={sid}")],
            [("Cookie2", f"user={sid}")],
            [("X-User-Id", sid), ("Not-X-User", sid)],
            [("Referer", f"http://cluster.test/?room={sid}")],
        ):
            self.free(request("GET", "/", headers=headers))
        self.free(request("GET", f"/x/doc/{sid}"))

    def test_a_cookie_that_the_application_sets(self) -> None:
        """A client that sends the application's cookie back is served by the worker that set it."""
        for _ in range(6):
            response = self.cluster.get("/cluster/login")
            cookie = (response.header("set-cookie") or "").split(";")[0]
            asked = request("GET", "/", headers=[("Cookie", cookie)])
            self.assertEqual(self.pinned(asked), self.worker(response))

    def test_without_a_key(self) -> None:
        """A request without any key is balanced."""
        self.free(request("GET", "/"))


class Hashed(Routing):
    """`hash:` keys go by rendezvous over the workers."""

    workers = 3
    options = ("--sticky", "hash:query:room")

    def test_a_value_stays(self) -> None:
        """A value stays with one worker, and sixty values use all of them."""
        for number in range(5):
            self.pinned(request("GET", f"/?room={number}"))
        asked = [request("GET", f"/?room={number}") for number in range(60)]
        self.assertEqual(set(self.workers_of(asked)), {1, 2, 3})


class Addresses(Routing):
    """`--sticky ip`."""

    options = ("--sticky", "ip")

    def from_address(self, number: int) -> int:
        """The worker that serves the client 127.0.0.NUMBER."""
        return self.worker(self.cluster.get(source=f"127.0.0.{number}"))

    def test_an_address_stays(self) -> None:
        """A client's address stays with one worker, and thirty addresses use all of them."""
        first = [self.from_address(number) for number in range(2, 32)]
        again = [self.from_address(number) for number in range(2, 32)]
        self.assertEqual(first, again)
        self.assertEqual(set(first), {1, 2})

    def test_the_application_sees_the_address(self) -> None:
        """The application sees the client's address and port, and the address it came to."""
        with self.cluster.connect(source="127.0.0.9") as connection:
            host, port = connection.socket.getsockname()
            told = json.loads(connection.ask(request("GET", "/")).body)
        self.assertEqual(told["peer"], f"{host}:{port}")
        self.assertEqual(told["host"], f"127.0.0.1:{self.cluster.port}")


class Inserted(Routing):
    """`--sticky insert:NAME`: the cluster sets a cookie of which the application knows nothing."""

    app = "mixed"
    workers = 3
    options = ("--factory", "--sticky", "insert:STICKY;HttpOnly;SameSite=Lax")

    def test_the_cookie_pins(self) -> None:
        """The first answer carries a cookie; a client that sends it back has the same worker."""
        for _ in range(6):
            response = self.cluster.get()
            cookie, *attributes = (response.header("set-cookie") or "").split("; ")
            self.assertTrue(cookie.startswith("STICKY="), response.headers)
            self.assertLessEqual({"HttpOnly", "SameSite=Lax"}, set(attributes))
            asked = request("GET", "/", headers=[("Cookie", f"a=b; {cookie}")])
            self.assertEqual(self.pinned(asked), self.worker(response))

    def test_set_once(self) -> None:
        """A client gets the cookie if it has none, on a used connection too, and not again."""
        with self.cluster.connect() as connection:
            first = connection.ask(request("GET", "/"))
            cookie = (first.header("set-cookie") or "").split(";")[0]
            again = connection.ask(request("GET", "/", headers=[("Cookie", cookie)]))
            self.assertIsNone(again.header("set-cookie"))
            self.assertIsNotNone(connection.ask(request("GET", "/")).header("set-cookie"))

    def test_websockets(self) -> None:
        """The answer to a WebSocket handshake carries the cookie, which pins the next one."""
        for _ in range(6):
            with self.cluster.connect() as connection:
                connection.send(rawws.handshake() + rawws.frame(b"x"))
                response = connection.response()
                rawws.accepted(response)
                cookie = (response.header("set-cookie") or "").split(";")[0]
                first = rawws.message(connection.reader)[1]
            with self.cluster.connect() as connection:
                connection.send(rawws.handshake("/ws", ("Cookie", cookie)) + rawws.frame(b"x"))
                response = connection.response()
                rawws.accepted(response)
                self.assertIsNone(response.header("set-cookie"))
                self.assertEqual(rawws.message(connection.reader)[1], first)


class Balanced(Routing):
    """200 joins at once over 4 workers, for plain HTTP and for WebSocket connections."""

    app = "mixed"
    workers = 4
    options = ("--factory", "--balance", "leastconn")
    JOINS = 200
    #: Seconds after which the primary knows for sure what the workers have.
    REPORT = 1.0
    #: The most and the fewest of 50 that a worker may get.
    TOLERANCE = 5

    def join(self, streams: list[bytes]) -> Counter[int]:
        """How many of these go to each worker when all join at once and stay."""
        before = self.cluster.settled()
        connections = [Connection(self.cluster.port) for _ in streams]
        try:
            for connection, stream in zip(connections, streams, strict=True):
                connection.send(stream)
            return Counter(self.joined(*each) for each in zip(connections, streams, strict=True))
        finally:
            for connection in connections:
                connection.close()
            until(lambda: self.cluster.descriptors() == before, 10, "all have left")
            time.sleep(self.REPORT)

    def joined(self, connection: Connection, stream: bytes) -> int:
        """The worker that serves this connection."""
        response = connection.response()
        if b"Upgrade" not in stream:
            return self.worker(response)
        rawws.accepted(response)
        connection.send(rawws.frame(b"who"))
        return int(rawws.message(connection.reader)[1].split(b":")[0])

    def spread(self, *kinds: bytes) -> None:
        """Assert that the joins are spread evenly."""
        counts = self.join(list(kinds) * (self.JOINS // len(kinds)))
        share = self.JOINS // self.workers
        self.assertEqual(set(counts), {1, 2, 3, 4})
        for worker, count in counts.items():
            self.assertLessEqual(abs(count - share), self.TOLERANCE, f"{worker}: {counts}")

    def test_http(self) -> None:
        """200 HTTP connections at once are spread evenly."""
        self.spread(request("GET", "/"))

    def test_websocket(self) -> None:
        """200 WebSocket connections at once are spread evenly."""
        self.spread(rawws.handshake())

    def test_both(self) -> None:
        """100 connections of each kind at once are spread evenly."""
        self.spread(request("GET", "/"), rawws.handshake())


class RoundRobin(Balanced):
    """`--balance roundrobin`."""

    options = ("--factory", "--balance", "roundrobin")


class TwoRandom(Balanced):
    """`--balance random2`, the less loaded of two."""

    options = ("--factory", "--balance", "random2")


class Random(Balanced):
    """`--balance random`."""

    options = ("--factory", "--balance", "random")


class WebSockets(Routing):
    """WebSocket connections are handed to workers whole."""

    app = "mixed"
    options = ("--factory",)

    def test_the_key_pins(self) -> None:
        """A WebSocket with a session id in its query goes to the session's worker."""
        for slot, sid in self.cluster.tags().items():
            for _ in range(5):
                with self.cluster.connect() as connection:
                    rawws.join(connection, f"/ws?sid={sid}")
                    connection.send(rawws.frame(b"x"))
                    self.assertEqual(rawws.message(connection.reader)[1], b"%d:x" % slot)

    def test_frames_behind_the_handshake(self) -> None:
        """Frames right behind the handshake reach the application, cut at every offset."""
        stream = rawws.handshake() + rawws.frame(b"one") + rawws.frame(payload(300), rawws.BINARY)
        scripts = [
            Script(
                (stream[:at], stream[at:]), 0.002, enough=lambda data: data.endswith(payload(300))
            )
            for at in range(1, len(stream))
        ]
        for outcome in converse(self.cluster.port, scripts):
            self.assertEqual(outcome.end, "enough", outcome)
            reader = Reader.over(outcome.data)
            rawws.accepted(reader.response())
            self.assertRegex(rawws.message(reader)[1], rb"\d:one")
            self.assertEqual(rawws.message(reader)[1][2:], payload(300))

    def test_large_messages(self) -> None:
        """A message of 1 MiB comes back whole."""
        with self.cluster.connect() as connection:
            rawws.join(connection)
            connection.send(rawws.frame(payload(1 << 20), rawws.BINARY))
            self.assertEqual(rawws.message(connection.reader)[1][2:], payload(1 << 20))


class BareWebSocketFactory(ClusterTestCase):
    """A WebSocketServerFactory as the application itself."""

    app = "websocket"
    options = ("--factory",)
    probe = ""

    def test_echo(self) -> None:
        """A bare factory is served, frames behind the handshake included."""
        workers = set()
        for _ in range(10):
            with self.cluster.connect() as connection:
                connection.send(rawws.handshake("/") + rawws.frame(b"x"))
                rawws.accepted(connection.response())
                workers.add(rawws.message(connection.reader)[1])
        self.assertEqual(workers, {b"1:x", b"2:x"})


class OtherProtocols(ClusterTestCase):
    """A protocol that is not HTTP, whose server speaks first."""

    app = "lines"
    options = ("--interface", "protocol", "--sticky", "ip")
    probe = ""

    def test_lines(self) -> None:
        """The greeting comes before the client says anything; what is sent comes back whole."""
        line = b"x" * 9000
        with self.cluster.connect() as connection:
            number = connection.reader.exactly(len(b"worker 1\n"))[-2:-1]
            for pieces in ([b"one\n"], [line, b"\n"], [b"a", b"b", b"\n"]):
                connection.send(*pieces, gap=0.01)
                answer = number + b":" + b"".join(pieces)
                self.assertEqual(connection.reader.exactly(len(answer)), answer)
