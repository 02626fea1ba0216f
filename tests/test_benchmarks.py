"""The benchmarks count right: CPU, medians, ratios, tables."""

from __future__ import annotations

import io
import os
import subprocess
import time
from contextlib import redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

from attrs import evolve
from twisted.trial.unittest import TestCase

from benchmarks import clients, measure, polling, report, scale, works
from benchmarks.measure import Summary, WrongAnswer

ROOT = Path(__file__).resolve().parent.parent


class MeasureTests(TestCase):
    """What the kernel says, and what is made of it."""

    def test_cpu(self) -> None:
        """The CPU of a process is what it itself counts, more or less."""
        before, own = measure.cpu([os.getpid()]), time.process_time()
        while time.process_time() - own < 0.05:
            pass
        used, counted = measure.cpu([os.getpid()]) - before, time.process_time() - own
        self.assertLess(abs(used / 1e6 - counted), counted / 2)

    def test_children(self) -> None:
        """The child processes are found."""
        with subprocess.Popen(["sleep", "60"]) as child:
            self.assertIn(child.pid, measure.children(os.getpid()))
            child.kill()

    def test_peak(self) -> None:
        """Memory that was held for a moment is seen although it is gone."""
        peak = measure.Peak([os.getpid()])
        bytearray(b"x" * (32 << 20))
        self.assertGreater(peak.growth(), 16 << 20)

    def test_medians(self) -> None:
        """A figure's median leaves out what happened once."""
        rounds = [{"a": 1.0}, {"a": 3.0}, {"a": 100.0}]
        self.assertEqual(measure.medians(rounds), {"a": 3.0})

    def test_ratios(self) -> None:
        """Ratios are taken round by round: a round in which all were slow counts as any other."""
        ours, theirs = [{"a": 1.0}, {"a": 10.0}, {"a": 2.0}], [{"a": 2.0}, {"a": 20.0}, {"a": 4.0}]
        self.assertEqual(measure.ratios(ours, theirs), {"a": 2.0})

    def test_ratio_to_nothing(self) -> None:
        """There is no ratio to a figure of 0."""
        self.assertEqual(measure.ratios([{"a": 0.0}], [{"a": 2.0}]), {})

    def test_in_turn(self) -> None:
        """Contenders are measured A B A B."""
        order: list[str] = []

        def work(name: str) -> measure.Figures:
            order.append(name)
            return {"a": 1.0}

        measure.in_turn({"A": lambda: work("A"), "B": lambda: work("B")}, 2)
        self.assertEqual(order, ["A", "B", "A", "B"])

    def test_failure(self) -> None:
        """A contender that answers wrongly is told of, and the others go on."""

        def wrong() -> measure.Figures:
            raise WrongAnswer("not this")

        seen, failed = measure.in_turn({"A": wrong, "B": lambda: {"a": 1.0}}, 2)
        self.assertEqual((seen, failed), ({"B": [{"a": 1.0}] * 2}, {"A": "not this"}))


class ReportTests(TestCase):
    """Tables and plots."""

    def setUp(self) -> None:
        ours = Summary("ours", {"us": 10.0}, {"us": 1.0})
        theirs = Summary("theirs", {"us": 25.0}, {"us": 2.5})
        self.result = report.Result(
            name="work",
            title="A <work>",
            goal="be fast",
            main=("us", False),
            summaries=[ours, theirs],
            rounds={},
            missing=["Left out: nginx is not installed."],
        )

    def test_table(self) -> None:
        """A row for each contender, with how many times better the first is."""
        table = report.table(self.result)
        self.assertIn("   * - theirs\n     - 25.0\n     - 2.50 x\n", table)

    def test_rows(self) -> None:
        """Figures that are no works are a table and JSON as well, and say where they are from."""
        folder = Path(self.mktemp())
        folder.mkdir()
        report.write_rows("starts", "Here.", ["", "it is"], [["ours", "5 ms"]], folder)
        text = (folder / "starts.rst").read_text()
        self.assertTrue(text.startswith("Here.\n\n.. list-table::\n"))
        self.assertIn("   * -\n     - it is\n   * - ours\n     - 5 ms\n", text)
        self.assertEqual(report.read_rows("starts", folder), [["ours", "5 ms"]])
        self.assertEqual(report.read_rows("others", folder), [])

    def test_more_is_better(self) -> None:
        """Where more is better, twice as much of it is 2 x."""
        ours = Summary("ours", {"req/s": 10.0}, {})
        theirs = Summary("theirs", {"req/s": 5.0}, {"req/s": 0.5})
        result = report.Result("work", "", "", ("req/s", True), [ours, theirs], {}, [])
        self.assertIn("     - 2.00 x\n", report.table(result))

    def test_plot(self) -> None:
        """The plot is XML whose bars are as long as the figures."""
        root = ElementTree.fromstring(report.plot(self.result))
        bars = [float(e.attrib["width"]) for e in root if "x" in e.attrib and "rect" in e.tag]
        self.assertAlmostEqual(bars[1] / bars[0], 2.5, delta=0.01)

    def test_missing(self) -> None:
        """A contender that is missing stands below the table."""
        self.assertIn("Left out: nginx", report.page([self.result], "Here."))

    def test_kept(self) -> None:
        """What is there of other works stays where it was, and says where it was measured."""
        folder = Path(self.mktemp())
        other = evolve(self.result, name="other", title="Another")
        report.write([self.result, other], "There.", folder)
        faster = evolve(self.result, goal="be faster")
        report.write([faster], "Here.", folder)
        kept = report.read(folder)
        self.assertEqual(kept, [evolve(faster, where="Here."), evolve(other, where="There.")])
        text = (folder / "results.rst").read_text()
        self.assertTrue(text.startswith("Here.\n\nA <work>\n--------\n\nGoal: be faster.\n"))
        self.assertIn("\nAnother\n-------\n\nThere.\n\nGoal: be fast.\n", text)
        self.assertEqual(report.read(folder, "scale"), [])

    def test_number(self) -> None:
        """Three digits that count."""
        said = [report.number(value) for value in (0.0001, 1.234, 12.34, 123.4, 12345.6)]
        self.assertEqual(said, ["0", "1.23", "12.3", "123", "12,346"])


class ClientTests(TestCase):
    """What the clients send and understand."""

    def test_ticket(self) -> None:
        """A ticket's line is expectation, path, cookie."""
        self.assertEqual(clients.Ticket("/a", "b=c", "7").line(), "7 /a b=c")
        self.assertEqual(clients.Ticket("/a").line(), "- /a")

    def test_chunked_answer(self) -> None:
        """An answer in chunks is whole when the last has come."""
        data = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        answer = polling.parse_answer(data)
        assert answer is not None
        self.assertEqual((answer.status, answer.body), (200, "abcde"))
        self.assertEqual(
            [polling.parse_answer(data[:end]) for end in range(len(data))].count(None), len(data)
        )

    def test_names(self) -> None:
        """Every work has a name of its own, and the first of its contenders is txsticky."""
        names = [work.name for work in works.WORKS]
        self.assertEqual(len(names), len(set(names)))


class CurveTests(TestCase):
    """What grows with what."""

    def test_versions(self) -> None:
        """Each version is measured at each point; what fails is told of, and the others go on."""

        def measured(tree: Path, point: int) -> measure.Figures:
            if tree == Path("old") and point == 64:
                raise AssertionError("it is too slow")
            return {"s": point / 2}

        curve = scale.Curve("scale-x", "X", "workers", (2, 64), measured, "s", "be fast")
        with redirect_stdout(io.StringIO()):
            result = curve.result({"": Path("new"), ", before": Path("old")})
        self.assertEqual(
            [(summary.name, summary.figures["s"]) for summary in result.summaries],
            [("2 workers", 1.0), ("2 workers, before", 1.0), ("64 workers", 32.0)],
        )
        self.assertEqual(result.missing, ["64 workers, before failed: it is too slow."])
        self.assertIn("     - 32.0\n", report.table(result))
