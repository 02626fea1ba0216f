"""Writing to a log whose reader may not read."""

from __future__ import annotations

import os
import select

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.logs.patience import PatientWriter


class PatientWriterTests(SynchronousTestCase):
    """A file, and a pipe."""

    def pipe(self) -> tuple[int, int]:
        """A pipe, its reading end first."""
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def test_file(self) -> None:
        """A file takes what is written."""
        name = self.mktemp()
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        PatientWriter(descriptor).write(b"x" * 10_000)
        with open(name, "rb") as file:
            self.assertEqual(file.read(), b"x" * 10_000)

    def test_pipe(self) -> None:
        """A pipe takes a line of any length, as long as there is room."""
        reader, writer = self.pipe()
        PatientWriter(writer).write(b"x" * 3 * select.PIPE_BUF + b"\n")
        self.assertEqual(os.read(reader, 1 << 16), b"x" * 3 * select.PIPE_BUF + b"\n")

    def test_nobody_reads(self) -> None:
        """What a full pipe does not take is an error and no wait; once there is room it goes on."""
        reader, writer = self.pipe()
        log, taken = PatientWriter(writer), 0
        with self.assertRaises(BlockingIOError):
            while True:
                log.write(b"x" * 1000)
                taken += 1
        self.assertRaises(BlockingIOError, log.write, b"lost")
        self.assertEqual(len(os.read(reader, 1 << 20)), 1000 * taken)
        log.write(b"again")
        self.assertEqual(os.read(reader, 100), b"again")
