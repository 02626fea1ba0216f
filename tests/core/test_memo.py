"""No memo holds more than its bound, whatever clients choose to have in it."""

from __future__ import annotations

import ast
import tracemalloc
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.http import framing
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.inside import AS_IT_CAME
from txsticky.core.http.steps import MEMORABLE
from txsticky.core.memo import ENTRY, MEMO_LIMIT, entries
from txsticky.core.routing import forwarded, tag
from txsticky.worker.fast_path import MEMORY, FastPath

from ..test_house import modules

MAKERS = {"lru_cache", "cache", "functools.lru_cache", "functools.cache", "cached_property"}


def sized(node: ast.Call, names: dict[str, str]) -> bool:
    """Whether a memo is made with a number that `entries` returned."""
    arguments = [*node.args, *(word.value for word in node.keywords if word.arg == "maxsize")]
    sizes = [names.get(ast.unparse(size), ast.unparse(size)) for size in arguments]
    return len(sizes) == 1 and sizes[0].startswith("entries(")


def memos() -> Iterator[tuple[str, bool]]:
    """Every memo of the package: where it is made, and whether its size is by the rule."""
    for name, _, tree in modules():
        assigned = {
            ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]): (
                ast.unparse(node.value)
            )
            for node in tree.body
            if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None
        }
        single = {
            id(maker)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and not any(ast.iter_child_nodes(node.args))
            for maker in node.decorator_list
        }  # a function without parameters has one value to remember
        called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Name | ast.Attribute)
                and ast.unparse(node) in MAKERS
                and id(node) not in single
            ):
                call = called.get(id(node))
                yield f"{name}, line {node.lineno}", call is not None and sized(call, assigned)


def head(mark: int, size: int) -> Head:
    """A request head of so many bytes, like no other."""
    begin = b"GET /%d HTTP/1.1\r\nX-Padding: " % mark
    parsed = parse_head(begin + b"x" * (size - len(begin) - 4) + b"\r\n\r\n", 1 << 20)
    assert isinstance(parsed, Head)
    return parsed


class RuleTests(SynchronousTestCase):
    """The rule for the size of a memo."""

    def test_bound(self) -> None:
        """As many entries as fit are granted, one more is an error that tells the numbers."""
        fit = MEMO_LIMIT // (1000 + ENTRY)
        self.assertEqual(entries(fit, 1000), fit)
        error = self.assertRaises(ValueError, entries, fit + 1, 1000)
        self.assertIn(f"{fit + 1} entries of 1000 bytes", str(error))

    def test_numbers(self) -> None:
        """The bound is 16 MiB, of which each entry takes half a KiB beside its text."""
        self.assertEqual(entries(1 << 14, 512), 1 << 14)
        self.assertRaises(ValueError, entries, 1 << 14, 513)

    def test_every_memo_keeps_it(self) -> None:
        """There is no memo in the package whose size is not by the rule."""
        found = dict(memos())
        self.assertGreaterEqual(len(found), 4)
        self.assertEqual([place for place, by_rule in found.items() if not by_rule], [])


class MemoryTests(SynchronousTestCase):
    """What memos cost when a client does its worst."""

    def check(self, remember: Callable[[int], object], count: int) -> None:
        """Fill a memo with twice what it takes; what it keeps is within the bound."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2 * count):
            remember(number)
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, MEMO_LIMIT)

    def test_addresses(self) -> None:
        """The addresses that proxies name: good ones, and nonsense of the greatest length."""
        self.addCleanup(forwarded._read_address.cache_clear)
        trusted = forwarded.Trusted.parse("127.0.0.1")

        def remember(number: int) -> None:
            for text in (b"2001:db8::%x:1" % number, b"%064d" % number, b"\xff%0200d" % number):
                forwarded.forwarded_for([text], "127.0.0.1", trusted)

        self.check(remember, 4096)
        self.assertGreater(forwarded._read_address.cache_info().currsize, 4000)

    def test_blocks(self) -> None:
        """Header blocks of requests and of responses."""
        self.addCleanup(framing._request.cache_clear)
        self.addCleanup(framing._response.cache_clear)

        def remember(number: int) -> None:
            for size in (100, 2000, 30000):
                framing.request(head(number, size))

        self.check(remember, 1024)

        def answered(number: int) -> None:
            for size in (100, 1900, 30000):
                text = b"HTTP/1.1 200 OK\r\nX: %d%s\r\n\r\n" % (number, b"y" * size)
                framing.response(text, b"GET")

        self.check(answered, 1024)

    def test_tags(self) -> None:
        """Tags, forged ones included."""
        signer = tag.Signer(b"0" * 16)

        def remember(number: int) -> None:
            signer.read(b"%0240d.abcdefghij" % number)
            signer.read(b"%02000d.abcdefghij" % number)

        self.check(remember, 16384)

    def test_requests(self) -> None:
        """The requests that a worker knows to the letter."""
        fast_path = FastPath(AS_IT_CAME)

        def remember(number: int) -> None:
            for size in (100, MEMORABLE, MEMORABLE + 1):
                fast_path.remember(head(number, size), How.NEW, None)

        self.check(remember, MEMORY)
        self.assertLessEqual(len(fast_path.known), MEMORY)


class LongTextTests(SynchronousTestCase):
    """What is too long for a memo."""

    def test_no_address(self) -> None:
        """A text that is longer than any address names none, and is not remembered."""
        before = forwarded._read_address.cache_info().currsize
        for number in range(100):
            text = b"%d.0.0.1" % number + b"0" * 50000
            host = forwarded.forwarded_for([text], "127.0.0.1", forwarded.Trusted.parse("*"))
            self.assertEqual(host, "127.0.0.1")
        self.assertEqual(forwarded._read_address.cache_info().currsize, before)

    def test_longest_address(self) -> None:
        """The longest way to write an address, with a zone and a port, is understood."""
        text = b"[0000:0000:0000:0000:0000:0000:255.255.255.255%interface0123456]:65535"
        trusted = forwarded.Trusted.parse("127.0.0.1")
        self.assertEqual(
            forwarded.forwarded_for([text], "127.0.0.1", trusted),
            "::ffff:ffff%interface0123456",
        )
