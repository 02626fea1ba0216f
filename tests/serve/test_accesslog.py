"""The access log: its lines, and its file."""

from __future__ import annotations

import os
import re

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from txsticky.errors import ConfigError
from txsticky.serve.accesslog import AccessLog, LogLine, route_of

ENTRY = LogLine(
    client="192.0.2.7",
    method=b"GET",
    target=b"/chat?sid=1",
    version=b"HTTP/1.1",
    status=200,
    length=12,
    referer=None,
    agent=b"curl/8",
    route="HIT",
)
#: The combined format as Apache's manual gives it, then the worker and the route.
COMBINED = re.compile(
    r'(\S+) (\S+) (\S+) (\[[^]]+\]) "((?:[^"\\]|\\.)*)" (\d{3}) (\S+)'
    r' "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" (\d+) (\S+)\n'
)


@attrs.define
class Wrapper:
    """A transport that wraps another."""

    transport: object


@attrs.define
class Routed:
    """A transport that knows its route."""

    how: object


class LogCase(TestCase):
    """An open access log in a directory of its own."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.now = 971211336.9
        self.log = AccessLog(self.path, 3, lambda: self.now)
        self.log.open()
        self.addCleanup(self.log.close)

    def text(self, path: str | None = None) -> str:
        with open(path or self.path, newline="") as file:
            return file.read()


class LineTests(LogCase):
    """What a line says."""

    def test_combined_with_worker_and_route(self) -> None:
        """A line is the combined format, the worker's number and the route."""
        self.log.write(ENTRY)
        self.assertEqual(
            self.text(),
            '192.0.2.7 - - [10/Oct/2000:20:55:36 +0000] "GET /chat?sid=1 HTTP/1.1" 200 12 '
            '"-" "curl/8" 3 HIT\n',
        )

    def test_empty_body_is_a_dash(self) -> None:
        """A response without body has a dash for its length, as Apache's %b."""
        self.log.write(attrs.evolve(ENTRY, length=0))
        self.assertIn('" 200 - "', self.text())

    def test_time_moves_on(self) -> None:
        """The time is that of the line, not that of the first one."""
        self.log.write(ENTRY)
        self.now += 1
        self.log.write(ENTRY)
        self.assertEqual(re.findall(r"20:55:\d\d", self.text()), ["20:55:36", "20:55:37"])

    def test_quotes_and_controls_are_escaped(self) -> None:
        """A client cannot end a field or a line of the log."""
        self.log.write(attrs.evolve(ENTRY, agent=b'a" 3 TAG\nfake\\\xe9'))
        self.assertIn(r'"a\" 3 TAG\x0afake\\\xe9" 3 HIT', self.text())

    @given(st.binary(), st.binary(), st.binary())
    def test_any_bytes_make_one_line(self, target: bytes, referer: bytes, agent: bytes) -> None:
        """Whatever a client sends, its line has the same eleven fields."""
        with open(self.path, "wb"):
            pass
        self.log.write(attrs.evolve(ENTRY, target=target, referer=referer, agent=agent))
        found = COMBINED.fullmatch(self.text())
        self.assertIsNotNone(found)
        assert found is not None
        self.assertEqual(found[10], "3")
        self.assertEqual(found[11], "HIT")


class FileTests(LogCase):
    """How the file is written."""

    def test_two_workers_append_to_one_file(self) -> None:
        """Two logs on one file keep each other's lines."""
        other = AccessLog(self.path, 4, lambda: self.now)
        other.open()
        self.addCleanup(other.close)
        for _ in range(3):
            self.log.write(ENTRY)
            other.write(ENTRY)
        self.assertEqual([line.split()[-2] for line in self.text().splitlines()], ["3", "4"] * 3)

    def test_reopen_goes_to_the_new_file(self) -> None:
        """After the file was moved away, reopen makes a new one, and the old one gets no more."""
        self.log.write(ENTRY)
        moved = self.path + ".1"
        os.rename(self.path, moved)
        self.log.reopen()
        self.log.write(ENTRY)
        self.assertEqual(self.text().count("\n"), 1)
        self.assertEqual(self.text(moved).count("\n"), 1)

    def test_reopen_leaves_no_descriptor(self) -> None:
        """Reopening does not use up descriptors."""
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(5):
            self.log.reopen()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    def test_failed_reopen_keeps_the_old_file(self) -> None:
        """If no new file can be made, the lines go on into the old one."""
        moved = self.path + ".1"
        os.rename(self.path, moved)
        os.mkdir(self.path)
        self.log.reopen()
        self.log.write(ENTRY)
        self.assertEqual(self.text(moved).count("\n"), 1)

    def test_unwritable_file_names_the_option(self) -> None:
        """For a file that cannot be opened the error names the option, the file and the reason."""
        log = AccessLog(os.path.join(self.path, "below", "access.log"), 1, lambda: 0.0)
        error = self.assertRaises(ConfigError, log.open)
        self.assertIn("--access-log", str(error))
        self.assertIn("access.log", str(error))
        self.assertIn("Not a directory", str(error))

    def test_full_disk_harms_no_request(self) -> None:
        """A line that cannot be written is dropped without an exception."""
        log = AccessLog("/dev/full", 1, lambda: 0.0)
        log.open()
        self.addCleanup(log.close)
        log.write(ENTRY)
        log.write(ENTRY)

    def test_closed_log_takes_lines_silently(self) -> None:
        """A request that ends after the log was closed harms nothing."""
        self.log.close()
        self.log.write(ENTRY)
        self.log.close()
        self.assertEqual(self.text(), "")

    def test_dash_is_the_standard_output(self) -> None:
        """`-` writes to descriptor 1, and closing the log leaves that open."""
        saved = os.dup(1)
        try:
            target = os.open(self.path, os.O_WRONLY)
            os.dup2(target, 1)
            os.close(target)
            log = AccessLog("-", 9, lambda: self.now)
            log.open()
            log.write(ENTRY)
            log.close()
            os.write(1, b"still open\n")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        self.assertTrue(self.text().endswith(" 9 HIT\nstill open\n"))


class RouteTests(TestCase):
    """Where a line's route comes from."""

    def test_from_the_transport(self) -> None:
        """The transport's `how` is the route."""
        self.assertEqual(route_of(Routed("TAG")), "TAG")

    def test_from_a_wrapped_transport(self) -> None:
        """The route is found below TLS, on the transport that TLS runs over."""
        self.assertEqual(route_of(Wrapper(Wrapper(Routed("NEW")))), "NEW")

    def test_a_transport_that_does_not_know(self) -> None:
        """A transport that was not routed, or is gone, has a dash."""
        self.assertEqual(route_of(Wrapper(None)), "-")
        self.assertEqual(route_of(None), "-")

    def test_endless_wrapping_ends(self) -> None:
        """A transport that wraps itself has a dash."""
        ring = Wrapper(None)
        ring.transport = ring
        self.assertEqual(route_of(ring), "-")
