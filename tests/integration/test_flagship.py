"""One connection that stays open, requests for several workers: each is answered by its own."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable

from attrs import frozen

from tests.integration import rawws
from tests.integration.cluster import ClusterTestCase
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Response, blocks, cut, payload, request, sha256


@frozen
class Asked:
    """One request, and what its answer is to be."""

    stream: bytes
    method: str
    worker: int
    number: str
    body: bytes
    size: int | None


class Flagship(ClusterTestCase):
    """Three workers, one connection."""

    app = "mixed"
    options = ("--factory",)
    workers = 3

    def setUp(self) -> None:
        super().setUp()
        self.cluster.tags()

    def asked(self, draw: random.Random, number: int, worker: int | None = None) -> Asked:
        """A request for some worker: any method, body and framing, any kind of answer."""
        worker = worker or draw.randint(1, 3)
        method = draw.choice(["GET", "POST", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"])
        target = f"/x?EIO=4&sid={self.cluster.tag(worker)}&n={number}"
        size = draw.choice([None, None, None, 0, 1, 5000, 70_000, 700_000])
        target += f"&size={size}" if size is not None else ""
        target += draw.choice(["", "", "&chunked=1"]) + draw.choice(["", "", "", "&delay=0.01"])
        if method not in ("POST", "PUT"):
            return Asked(request(method, target), method, worker, str(number), b"", size)
        body = payload(draw.choice([0, 1, 10, 1000, 66_000, 200_000]), number)
        if draw.random() < 0.5:
            stream = request(method, target, body=body)
        else:
            step = draw.randint(1 + len(body) // 30, 1 + len(body))
            stream = request(
                method, target, chunks=[body[at : at + step] for at in range(0, len(body), step)]
            )
        return Asked(stream, method, worker, str(number), body, size)

    def check(self, connection: Connection, asked: Asked) -> Response:
        """Reads the answer to this request."""
        response = connection.response(asked.method)
        self.assertEqual(
            (response.status, response.header("x-n"), response.header("x-worker")),
            (200, asked.number, str(asked.worker)),
        )
        self.assertEqual(
            (response.header("x-length"), response.header("x-sha256")),
            (str(len(asked.body)), sha256([asked.body])),
        )
        if asked.method != "HEAD" and asked.size is not None:
            self.assertEqual(
                (response.length, response.sha256), (asked.size, sha256(blocks(asked.size)))
            )
        elif asked.method != "HEAD":
            host, port = connection.socket.getsockname()
            self.assertEqual(json.loads(response.body)["peer"], f"{host}:{port}")
        return response

    def converse(
        self, seed: int, send: Callable[[Connection, random.Random, list[Asked]], None]
    ) -> None:
        """Twenty requests on one connection; `send` sends them while the answers are read here."""
        draw = random.Random(seed)
        requests = [self.asked(draw, number) for number in range(20)]
        with self.cluster.connect() as connection:
            sender = threading.Thread(target=send, args=(connection, draw, requests))
            sender.start()
            try:
                for asked in requests:
                    self.check(connection, asked)
            finally:
                sender.join()

    def test_one_after_the_other(self) -> None:
        """Twenty requests in turn, on each of six connections."""
        for seed in range(6):
            draw = random.Random(seed)
            with self.cluster.connect() as connection:
                for number in range(20):
                    asked = self.asked(draw, number)
                    connection.send(asked.stream)
                    self.check(connection, asked)

    def test_pipelined(self) -> None:
        """Twenty requests sent without waiting are answered in order, on six connections."""

        def send(connection: Connection, draw: random.Random, requests: list[Asked]) -> None:
            connection.send(b"".join(asked.stream for asked in requests))

        for seed in range(10, 16):
            self.converse(seed, send)

    def test_random_splits(self) -> None:
        """Pipelined requests are answered in order if the stream is cut at random, with pauses."""

        def send(connection: Connection, draw: random.Random, requests: list[Asked]) -> None:
            data, at = b"".join(asked.stream for asked in requests), 0
            while at < len(data):
                size = draw.choice([1, 7, 100, 5000, 60_000])
                connection.send(data[at : at + size])
                at += size
                if draw.random() < 0.02:
                    time.sleep(0.002)

        for seed in range(20, 26):
            self.converse(seed, send)

    def test_every_offset(self) -> None:
        """Two requests for two workers, cut at every offset of the second's head."""
        with self.cluster.connect() as connection:
            first, second = (
                request("POST", f"/?sid={self.cluster.tag(worker)}&n={worker}", body=b"hello")
                for worker in (1, 2)
            )
            for at in range(1, len(second)):
                connection.send(*cut(first + second, len(first) + at), gap=0.001)
                for worker in ("1", "2"):
                    response = connection.response()
                    self.assertEqual(
                        (response.status, response.header("x-worker")), (200, worker), at
                    )
                    self.assertEqual(response.header("x-length"), "5")

    def test_many_at_once(self) -> None:
        """24 connections at the same time, each hopping between the workers."""
        faults: list[BaseException] = []

        def hop(seed: int) -> None:
            draw = random.Random(seed)
            try:
                with self.cluster.connect() as connection:
                    for number in range(25):
                        asked = self.asked(draw, number)
                        connection.send(*cut(asked.stream, draw.randint(1, len(asked.stream))))
                        self.check(connection, asked)
            except BaseException as fault:
                fault.add_note(f"seed {seed}")
                faults.append(fault)

        threads = [threading.Thread(target=hop, args=(seed,)) for seed in range(100, 124)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def test_expect_continue(self) -> None:
        """A request that waits for 100 Continue gets it from the worker that it is for."""
        with self.cluster.connect() as connection:
            for number in range(9):
                sid = self.cluster.tag(number % 3 + 1)
                headers = [("Expect", "100-continue"), ("Content-Length", "5")]
                connection.send(request("POST", f"/?sid={sid}", headers=headers))
                self.assertEqual(connection.reader.interim(), 100)
                connection.send(b"hello")
                response = connection.response()
                self.assertEqual(response.header("x-worker"), str(number % 3 + 1))
                self.assertEqual(response.header("x-length"), "5")

    def test_half_close_behind_the_last(self) -> None:
        """A client that says it has sent all gets the answers of all workers, then the end."""
        stream = b"".join(
            request("POST", f"/?n={n}&sid={self.cluster.tag(n % 3 + 1)}", body=b"x" * n)
            for n in range(9)
        )
        with self.cluster.connect() as connection:
            connection.send(stream)
            connection.half_close()
            for number in range(9):
                response = connection.response()
                self.assertEqual(
                    (response.header("x-n"), response.header("x-worker")),
                    (str(number), str(number % 3 + 1)),
                )
            connection.end()

    def test_close_behind_the_last(self) -> None:
        """Connection: close on a request for another worker: answered there, then closed."""
        with self.cluster.connect() as connection:
            connection.ask(request("GET", f"/?sid={self.cluster.tag(1)}"))
            last = request("GET", f"/?sid={self.cluster.tag(2)}", headers=[("Connection", "close")])
            self.assertEqual(connection.ask(last).header("x-worker"), "2")
            connection.end()

    def test_websocket_behind_requests(self) -> None:
        """An upgrade on a used connection goes to its session's worker, first frame included."""
        with self.cluster.connect() as connection:
            for worker in (1, 2):
                connection.ask(request("GET", f"/?sid={self.cluster.tag(worker)}"))
            connection.send(rawws.handshake(f"/ws?sid={self.cluster.tag(3)}") + rawws.frame(b"x"))
            rawws.accepted(connection.response())
            self.assertEqual(rawws.message(connection.reader)[1], b"3:x")
            text = f"GET /?sid={self.cluster.tag(1)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            connection.send(rawws.frame(text))
            self.assertEqual(rawws.message(connection.reader)[1], b"3:" + text)

    def test_bound_keys(self) -> None:
        """Keys that an application bound are found from another worker's connection as well."""
        place = {}
        for number in range(9):
            response = self.cluster.get(f"/cluster/bind?key=flagship-{number}")
            place[f"flagship-{number}"] = response.header("x-worker")
        with self.cluster.connect() as connection:
            for _ in range(3):
                for key, worker in place.items():
                    answer = connection.ask(request("POST", f"/?sid={key}", body=b"hello"))
                    self.assertEqual((answer.status, answer.header("x-worker")), (200, worker))

    def test_two_agents(self) -> None:
        """Two sessions, two connections, each used for both: the `40` POST of one on the other's
        connection is answered 200, by its own worker.
        """
        one, two = self.cluster.tag(1), self.cluster.tag(2)
        polling = "/socket.io/?EIO=4&transport=polling&sid="
        with self.cluster.connect() as first, self.cluster.connect() as second:
            self.assertEqual(first.ask(request("GET", polling + one)).header("x-worker"), "1")
            self.assertEqual(second.ask(request("GET", polling + two)).header("x-worker"), "2")
            for connection, sid, worker in (
                (second, one, "1"),
                (first, two, "2"),
                (second, two, "2"),
            ):
                for asked in (
                    request("POST", polling + sid, body=b"40"),
                    request("GET", polling + sid),
                ):
                    response = connection.ask(asked)
                    self.assertEqual((response.status, response.header("x-worker")), (200, worker))

    def test_a_long_poll_does_not_block_a_session(self) -> None:
        """While a session's long poll is held, its POST on another connection finds its worker."""
        sid = self.cluster.tag(3)
        with self.cluster.connect() as polling, self.cluster.connect() as posting:
            polling.ask(request("GET", f"/?sid={self.cluster.tag(1)}"))
            polling.send(request("GET", f"/?delay=0.5&sid={sid}&n=poll"))
            for _ in range(3):
                posting.ask(request("GET", f"/?sid={self.cluster.tag(2)}"))
                answer = posting.ask(request("POST", f"/?sid={sid}", body=b"40"))
                self.assertEqual(answer.header("x-worker"), "3")
            answer = polling.response()
            self.assertEqual((answer.header("x-n"), answer.header("x-worker")), ("poll", "3"))


class Wsgi(ClusterTestCase):
    """Sessions under a WSGI application, whose ids it made itself."""

    app = "flask"
    options = ("--factory",)
    probe = "/echo"

    def test_alternating(self) -> None:
        """Requests for sessions on both workers, in turn and pipelined, each find their worker."""
        until(lambda: {self.told(self.cluster.get("/echo")) for _ in range(6)} == {"1", "2"})
        sids = [f"session-{number}" for number in range(12)]
        place = {sid: self.told(self.cluster.get(f"/echo?sid={sid}")) for sid in sids}
        self.assertEqual(set(place.values()), {"1", "2"})
        body = payload(70_000)
        with self.cluster.connect() as connection:
            for sid in sids:
                connection.send(request("POST", f"/echo?sid={sid}", body=body))
                answer = connection.response()
                self.assertEqual(json.loads(answer.body)["sha256"], sha256([body]))
                self.assertEqual(self.told(answer), place[sid])
            connection.send(b"".join(request("GET", f"/echo?sid={sid}") for sid in sids))
            for sid in sids:
                self.assertEqual(self.told(connection.response()), place[sid])

    def told(self, response: Response) -> str:
        """The number of the worker that answered 200."""
        self.assertEqual(response.status, 200)
        return str(json.loads(response.body)["worker"])
