"""No byte is lost: what a client sends, at any pace, is what the application gets, and back."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.cluster import ClusterTestCase
from tests.integration.converse import Script, converse, whole
from tests.integration.rawhttp import (
    Connection,
    Reader,
    Response,
    blocks,
    chunk,
    cut,
    payload,
    request,
    sha256,
)

MIB = 1 << 20
GAP = 0.002


def received(response: Response) -> tuple[int, int | None, str | None]:
    """Status, and length and sha256 of the body as the application got it."""
    return response.status, int(response.header("x-length") or -1), response.header("x-sha256")


def sent(body: bytes) -> tuple[int, int, str]:
    """What :func:`received` is to be for this body."""
    return 200, len(body), sha256([body])


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """The results of work(0), work(1), ... at the same time; an exception is a result too."""
    results: list[object] = [None] * count

    def run(number: int) -> None:
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Uploads(ClusterTestCase):
    """The original report's matrix, and bodies from nothing to very large."""

    workers = 3

    def upload(self, body: bytes, *pieces: bytes, gap: float = GAP) -> None:
        """Posts the body; `pieces` are the request's bytes if it is not to leave in one write."""
        with self.cluster.connect() as connection:
            connection.send(*(pieces or [request("POST", "/upload", body=body)]), gap=gap)
            self.assertEqual(received(connection.response()), sent(body))

    def stream(self, size: int, chunked: bool) -> None:
        """Posts `size` bytes without ever holding them."""
        framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))
        with self.cluster.connect() as connection:
            connection.send(request("POST", "/upload", headers=[framing]))
            for block in blocks(size):
                connection.send(chunk(block) if chunked else block)
            connection.send(b"0\r\n\r\n" if chunked else b"")
            self.assertEqual(received(connection.response()), (200, size, sha256(blocks(size))))

    def test_sizes(self) -> None:
        """Bodies of 8, 32, 256 and 512 KiB arrive whole, three times each."""
        for size in (8, 32, 256, 512):
            for seed in range(3):
                self.upload(payload(size << 10, seed))

    def test_edges(self) -> None:
        """Bodies of no byte, one, and around a read's 64 KiB arrive whole in either framing."""
        for size in (0, 1, 2, 65534, 65535, 65536, 65537, 131072):
            body = payload(size, 1)
            self.upload(body)
            self.upload(body, request("POST", "/upload", chunks=[body]))

    def test_one_write_or_two(self) -> None:
        """4 KiB and 1 MiB arrive whole in one write, and with the head in a write of its own."""
        for size in (4096, MIB):
            body = payload(size)
            data = request("POST", "/upload", body=body)
            self.upload(body, data)
            self.upload(body, *cut(data, len(data) - size))

    def test_twenty_in_a_row(self) -> None:
        """Twenty uploads of 1 MiB arrive whole."""
        for seed in range(20):
            self.upload(payload(MIB, seed))

    def test_twenty_on_one_connection(self) -> None:
        """Twenty uploads of 1 MiB on one kept-alive connection arrive whole."""
        with self.cluster.connect() as connection:
            for seed in range(20):
                body = payload(MIB, seed)
                self.assertEqual(
                    received(connection.ask(request("POST", "/", body=body))), sent(body)
                )

    def test_eight_mebibytes_split(self) -> None:
        """8 MiB arrive whole when cut at many places, one of them inside the head."""
        body = payload(8 * MIB)
        data = request("POST", "/upload", body=body)
        self.upload(body, *cut(data, 30, 64, *range(1000, len(data), 300_007)))

    def test_six_at_once(self) -> None:
        """Six uploads of 1 MiB at the same time arrive whole."""
        answers = in_threads(6, lambda seed: self.upload(payload(MIB, seed)))
        self.assertEqual(answers, [None] * 6)

    def test_64_mebibytes(self) -> None:
        """64 MiB arrive whole, with a length and chunked."""
        self.stream(64 * MIB, chunked=False)
        self.stream(64 * MIB, chunked=True)

    def test_one_gibibyte(self) -> None:
        """1 GiB arrives whole, with a length and chunked."""
        self.stream(1 << 30, chunked=False)
        self.stream(1 << 30, chunked=True)

    if not os.environ.get("TXSTICKY_LONG"):
        test_one_gibibyte.skip = "set TXSTICKY_LONG=1 for the long tests"  # type: ignore[attr-defined]

    def test_a_slow_upload(self) -> None:
        """A body that trickles in over two seconds arrives whole."""
        body = payload(2000)
        self.upload(body, *cut(request("POST", "/", body=body), *range(200, 2000, 100)), gap=0.1)

    def test_tiny_chunks(self) -> None:
        """A body of 500 chunks of 1 to 7 bytes, each chunk a segment of its own, arrives whole."""
        body = payload(2000)
        chunks = [body[at : at + 4] for at in range(0, 2000, 4)]
        head = request("POST", "/", headers=[("Transfer-Encoding", "chunked")])
        self.upload(body, head, *map(chunk, chunks), b"0\r\n\r\n", gap=0)

    def test_expect_continue(self) -> None:
        """A client that waits for 100 Continue gets it before it sends the body."""
        body = payload(100_000)
        head = request(
            "POST", "/", headers=[("Expect", "100-continue"), ("Content-Length", "100000")]
        )
        with self.cluster.connect() as connection:
            for _ in range(2):
                connection.send(head)
                self.assertEqual(connection.reader.interim(), 100)
                connection.send(body)
                self.assertEqual(received(connection.response()), sent(body))

    def test_half_close_after_the_request(self) -> None:
        """A client that says it has sent all still gets its answer, then the end."""
        for body in (None, payload(1000), payload(300_000)):
            with self.cluster.connect() as connection:
                connection.send(request("POST", "/?delay=0.1", body=body))
                connection.half_close()
                self.assertEqual(received(connection.response()), sent(body or b""))
                connection.end()


class Splits(ClusterTestCase):
    """A request may be cut anywhere."""

    head = request(
        "POST", "/every/offset?n=1", body=b"hello", headers=[("Connection", "close"), ("X-A", "b")]
    )

    def whole(self, scripts: Iterable[Script], body: bytes, n: str) -> None:
        """Every script is answered, once, with this body and number."""
        for script, outcome in zip(
            scripts, converse(self.cluster.port, list(scripts)), strict=True
        ):
            reader = Reader.over(outcome.data)
            response = reader.response()
            self.assertEqual(
                (*received(response), response.header("x-n")), (*sent(body), n), script.pieces
            )
            self.assertEqual((reader.buffered, outcome.end), (b"", "closed"), script.pieces)

    def test_two_segments(self) -> None:
        """A request cut in two arrives whole, for every offset and with each gap."""
        for gap in (0.0, 0.0005, 0.01):
            scripts = [Script(tuple(cut(self.head, at)), gap) for at in range(1, len(self.head))]
            self.whole(scripts, b"hello", "1")

    def test_three_segments(self) -> None:
        """A request cut in three arrives whole, for every first offset with four of the second."""
        size = len(self.head)
        scripts = [
            Script(tuple(cut(self.head, at, at + 1 + (size - at - 2) * part // 3)), GAP)
            for at in range(1, size - 2)
            for part in range(4)
        ]
        self.whole(scripts, b"hello", "1")

    def test_byte_by_byte(self) -> None:
        """A request that comes in single bytes arrives whole."""
        self.whole([Script(tuple(cut(self.head, *range(1, len(self.head)))), 0.001)], b"hello", "1")

    def test_get(self) -> None:
        """A GET without a body is answered for every offset, on a connection that stays open."""
        data = request("GET", "/?n=7")
        scripts = [Script(tuple(cut(data, at)), GAP, enough=whole()) for at in range(1, len(data))]
        for outcome in converse(self.cluster.port, scripts):
            self.assertEqual(outcome.end, "enough")
            self.assertEqual(Reader.over(outcome.data).response().header("x-n"), "7")

    def test_half_close(self) -> None:
        """A request cut at any offset and followed by a half-close is answered, then closed."""
        data = request("POST", "/?n=7", body=b"hello")
        scripts = [
            Script(tuple(cut(data, at)), GAP, half_close=True) for at in range(1, len(data) + 1)
        ]
        self.whole(scripts, b"hello", "7")

    def test_pipelined_in_the_first_read(self) -> None:
        """Three requests in one segment, and cut at every offset, are answered in order."""
        body = payload(20)
        data = b"".join(
            [
                request("GET", "/?n=1"),
                request("POST", "/?n=2&delay=0.01", body=body),
                request("GET", "/?n=3"),
            ]
        )
        scripts = [Script((data,), enough=whole(3))]
        scripts += [
            Script(tuple(cut(data, at)), GAP, enough=whole(3)) for at in range(1, len(data))
        ]
        for outcome in converse(self.cluster.port, scripts):
            reader = Reader.over(outcome.data)
            answers = [reader.response() for _ in range(3)]
            self.assertEqual([a.header("x-n") for a in answers], ["1", "2", "3"])
            self.assertEqual([received(a) for a in answers], [sent(b""), sent(body), sent(b"")])
            self.assertEqual(reader.buffered, b"")

    def test_head_arrives_as_it_was_sent(self) -> None:
        """Target and header fields reach the application as they were sent, whatever is in them."""
        target = "/a%2Fb/%C3%A9;p=1?q=a+b%20c&q=&sid=&=x&" + "k" * 3000
        headers = [
            ("X-Long", "v" * 5000),
            ("X-Latin", "caf\xe9 \xff"),
            ("X-Many", "1"),
            ("X-Many", "2"),
        ]
        with self.cluster.connect() as connection:
            told = json.loads(connection.ask(request("GET", target, headers=headers)).body)
        self.assertEqual(told["uri"], target)
        values = [[name.title(), value] for name, value in told["headers"]]
        for name, value in headers:
            self.assertIn([name, value], values)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_split(self, data: st.DataObject) -> None:
        """A conversation of requests with bodies of any size and framing may be cut anywhere."""
        sizes = data.draw(
            st.lists(st.sampled_from([0, 1, 100, 5000, 70_000, 200_000]), min_size=1, max_size=4)
        )
        bodies = [payload(size, seed) for seed, size in enumerate(sizes)]
        stream = b"".join(self.drawn(data, number, body) for number, body in enumerate(bodies))
        offsets = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=6, unique=True))
        near = data.draw(st.lists(st.integers(1, min(300, len(stream) - 1)), max_size=4))
        gap = data.draw(st.sampled_from([0.0, 0.0003, GAP, 0.01]))
        pieces = cut(stream, *offsets, *near)
        with self.cluster.connect() as connection:
            sender = threading.Thread(target=connection.send, args=pieces, kwargs={"gap": gap})
            sender.start()
            for number, body in enumerate(bodies):
                response = connection.response()
                self.assertEqual(
                    (*received(response), response.header("x-n")), (*sent(body), str(number))
                )
            sender.join()

    def drawn(self, data: st.DataObject, number: int, body: bytes) -> bytes:
        """A POST of the body, by length or in chunks of drawn sizes."""
        if data.draw(st.booleans()):
            return request("POST", f"/?n={number}", body=body)
        step = data.draw(st.integers(1 + len(body) // 20, 1 + len(body)))
        chunks = [body[at : at + step] for at in range(0, len(body), step)]
        return request("POST", f"/?n={number}", chunks=chunks)


class Downloads(ClusterTestCase):
    """Responses arrive whole as well."""

    def test_sizes(self) -> None:
        """Responses of 0 bytes to 64 MiB arrive whole in either framing, on one connection."""
        with self.cluster.connect() as connection:
            for size in (0, 1, 65535, 65536, 65537, MIB, 64 * MIB):
                for chunked in ("", "&chunked=1"):
                    connection.send(request("GET", f"/?size={size}{chunked}"))
                    response = connection.response(keep=False)
                    self.assertEqual(
                        (response.length, response.sha256), (size, sha256(blocks(size)))
                    )

    def test_to_the_end_of_the_connection(self) -> None:
        """A response to an HTTP/1.0 client, which ends with the connection, arrives whole."""
        with self.cluster.connect() as connection:
            connection.send(b"GET /?size=3000000&chunked=1 HTTP/1.0\r\n\r\n")
            response = connection.response(keep=False)
            self.assertTrue(response.to_end)
            self.assertEqual(response.sha256, sha256(blocks(3_000_000)))

    def test_a_slow_reader(self) -> None:
        """A client that reads slowly gets every byte, and others do not wait for it."""
        size = 4 * MIB
        with self.cluster.connect(window=8192) as slow:
            slow.send(request("GET", f"/?size={size}"))
            time.sleep(0.3)
            self.assertEqual(self.cluster.get().status, 200)
            self.assertEqual(slow.response(keep=False).sha256, sha256(blocks(size)))

    def test_head_and_no_content(self) -> None:
        """Responses without a body leave the connection usable for the next request."""
        with self.cluster.connect() as connection:
            self.assertEqual(
                connection.ask(request("HEAD", "/?size=5000")).header("content-length"), "5000"
            )
            for status in (204, 304):
                self.assertEqual(
                    connection.ask(request("GET", f"/?status={status}")).status, status
                )
            self.assertEqual(connection.ask(request("OPTIONS", "/?n=9")).header("x-n"), "9")


class Forms(ClusterTestCase):
    """A WSGI application is served without a change to it."""

    app = "flask"
    options = ("--factory",)
    probe = "/echo"

    def form(self, data: bytes) -> tuple[bytes, str]:
        """A multipart form with a file and a field, and its content type."""
        edge = "----txsticky-boundary"
        body = (
            f'--{edge}\r\nContent-Disposition: form-data; name="note"\r\n\r\nfor you\r\n'
            f"--{edge}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="a b.bin"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode() + data
        return body + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"

    def posted(self, connection: Connection, data: bytes, *offsets: int) -> dict[str, object]:
        """What Flask says of the form's file."""
        body, kind = self.form(data)
        stream = request("POST", "/upload", body=body, headers=[("Content-Type", kind)])
        connection.send(*cut(stream, *offsets), gap=GAP)
        told: dict[str, object] = json.loads(connection.response().body)
        return told

    def test_upload(self) -> None:
        """A file in a multipart form is parsed by Flask, of any size and in any pieces."""
        with self.cluster.connect() as connection:
            for size, *offsets in (
                (0,),
                (1,),
                (5000, 200),
                (300_000, 64, 70_000),
                (5 * MIB, 100, 2 * MIB),
            ):
                data = payload(size)
                told = self.posted(connection, data, *offsets)
                self.assertEqual(
                    (told["name"], told["note"], told["length"], told["sha256"]),
                    ("a b.bin", "for you", size, sha256([data])),
                )

    def test_chunked(self) -> None:
        """A chunked body reaches a WSGI application."""
        body = payload(100_000)
        with self.cluster.connect() as connection:
            stream = request("POST", "/echo", chunks=[body[:3], body[3:]])
            told = json.loads(connection.ask(stream).body)
        self.assertEqual((told["length"], told["sha256"]), (len(body), sha256([body])))
