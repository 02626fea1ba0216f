"""The mutator: what it changes, which tests it asks, and that it tells the truth of them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.__main__ import HERE
from tests.mutants.__main__ import Equivalent, Report, chosen_modules, equivalents, rounds
from tests.mutants.imports import imported, sources, tests_for
from tests.mutants.mutations import Mutant, mutants, sample
from tests.mutants.witnesses import Watch, Witness, order, read

ROOT = HERE.parent


def changed(body: str) -> list[str]:
    """What can be changed in a function with this body."""
    source = "def f(self, a, b):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return [mutant.change for mutant in mutants("m", source)]


class ChangesTests(SynchronousTestCase):
    """The changes."""

    def test_comparisons(self) -> None:
        """A comparison takes its bound in or leaves it out, or is turned round."""
        for before, after in (
            ("a < b", "a <= b"),
            ("a <= b", "a < b"),
            ("a > b", "a >= b"),
            ("a >= b", "a > b"),
            ("a == b", "a != b"),
            ("a != b", "a == b"),
            ("a is b", "a is not b"),
            ("a is not b", "a is b"),
            ("a in b", "a not in b"),
            ("a not in b", "a in b"),
        ):
            self.assertEqual(changed(f"return {before}"), ["return None", f"{before} -> {after}"])

    def test_chain(self) -> None:
        """In a chain each comparison is changed for itself."""
        found = changed("return a < self <= b")[1:]
        chain = "a < self <= b"
        self.assertEqual(found, [f"{chain} -> a <= self <= b", f"{chain} -> a < self < b"])

    def test_logic(self) -> None:
        """`and` and `or` change places, each operand is dropped, and a `not`."""
        self.assertEqual(
            changed("return a and b and not self")[1:],
            [
                "a and b and (not self) -> a or b or (not self)",
                "a and b and (not self) -> b and (not self)",
                "a and b and (not self) -> a and (not self)",
                "a and b and (not self) -> a and b",
                "not self -> self",
            ],
        )
        self.assertEqual(
            changed("return a or b")[1:], ["a or b -> a and b", "a or b -> b", "a or b -> a"]
        )

    def test_conditions(self) -> None:
        """Conditions are negated, where that is not what another change does."""
        self.assertIn("a -> not a", changed("if a: return b"))
        self.assertIn("a < b -> not a < b", changed("while a < b: break"))
        self.assertIn("a if b else 0 -> a if not b else 0", changed("return a if b else 0"))
        self.assertIn(
            "[a for a in b if a] -> [a for a in b if not a]", changed("[a for a in b if a]")
        )
        self.assertEqual(changed("if a == b: return"), ["a == b -> a != b", "return dropped"])
        self.assertEqual(changed("if not a: return"), ["not a -> a", "return dropped"])

    def test_constants(self) -> None:
        """Numbers are one more or less, bytes have one more, truths are turned round."""
        self.assertEqual(changed("return 7")[1:], ["7 -> 8", "7 -> 6"])
        self.assertEqual(changed("return 0.5")[1:], ["0.5 -> 1.5", "0.5 -> -0.5"])
        self.assertEqual(changed("return b'a'")[1:], ["b'a' -> b'a!'"])
        self.assertEqual(changed("return True")[1:], ["True -> False"])
        self.assertEqual(changed("return self.f(7)")[1:2], ["7 -> 8 in self.f(7)"])
        self.assertEqual(changed("return 'text'")[1:], [])

    def test_arithmetic(self) -> None:
        """Operators are replaced, in assignments as well; text is not subtracted."""
        self.assertEqual(changed("return a + b")[1:], ["a + b -> a - b"])
        self.assertEqual(changed("return a << b")[1:], ["a << b -> a >> b"])
        self.assertEqual(changed("a |= b"), ["dropped", "a |= b -> a &= b"])
        self.assertEqual(changed("return a + 'x'")[1:], [])

    def test_statements(self) -> None:
        """What a statement does is left out; a loop ends early or late; nothing is returned."""
        self.assertEqual(changed("self.a = b"), ["dropped"])
        self.assertEqual(changed("self.f()"), ["dropped"])
        self.assertEqual(changed("raise a"), ["dropped"])
        self.assertEqual(changed("del a"), ["dropped"])
        self.assertEqual(changed("return a"), ["return None"])
        self.assertEqual(changed("return None"), [])
        self.assertEqual(changed("return False"), ["False -> True"])
        self.assertEqual(changed("return 0"), ["return None", "0 -> 1", "0 -> -1"])
        self.assertEqual(changed("for a in b: break"), ["break -> continue"])
        self.assertEqual(changed("for a in b: continue"), ["continue -> break"])

    def test_arguments(self) -> None:
        """Neighbouring arguments are exchanged, unless that changes nothing."""
        self.assertEqual(changed("return f(a, b, *self)")[1:], ["f(a, b, *self) -> f(b, a, *self)"])
        self.assertEqual(changed("return f(a, a)")[1:], [])
        self.assertEqual(changed("return max(a, b)")[1:], [])

    def test_left_alone(self) -> None:
        """Texts, logs, annotations, assertions and what type checkers read stay as they are."""
        source = '''
            """Text."""
            import a
            if TYPE_CHECKING:
                b = 1
            @attrs.define(slots=True)
            class C:
                """Text."""
                __slots__ = ("a",)
                a: int = attrs.field(init=False, repr=False)
                def f(self, a: Literal[1]) -> Literal[2]:
                    """Text."""
                    assert a == 1
                    log.debug("{a}", a=1)
                    self._log.info("{a}", a=1)
        '''
        self.assertEqual(mutants("m", textwrap.dedent(source)), [])

    def test_where(self) -> None:
        """A mutant says where it is and is the whole module with that change and no other."""
        source = "A = 1\nclass C:\n    def f(self):  # why\n        if self.a: return 'x'\n"
        first, _, negated, *_ = mutants("a.b", source)
        self.assertEqual((first.function, first.number, first.line), ("", 1, "A = 1"))
        self.assertEqual((negated.function, negated.number), ("C.f", 4))
        self.assertEqual(negated.line, "if self.a: return 'x'")
        self.assertEqual(str(first), "a.b:1 : A = 1  [1 -> 2]")
        expected = source.replace("if self.a", "if not self.a")
        self.assertEqual(negated.render(), ast.unparse(ast.parse(expected)))

    def test_when(self) -> None:
        """A mutant says whether its line is run when a function is called."""
        source = "class C:\n    A = 1\n    def f(self, b=2):\n        return 3\n    g = lambda: 4"
        told = {m.change[0]: m.at_call for m in mutants("m", source) if "->" in m.change}
        self.assertEqual(told, {"1": False, "2": False, "3": True, "4": True})

    def test_all_compile(self) -> None:
        """Every mutant of every module is a module, and differs from the original."""
        for name, path in sources(ROOT).items():
            if name.startswith("txsticky.core."):
                source = path.read_text()
                plain = ast.unparse(ast.parse(source))
                for mutant in sample(mutants(name, source), 10, 1):
                    text = mutant.render()
                    compile(text, name, "exec")
                    self.assertNotEqual(text, plain, mutant)
                self.assertEqual(mutant.render(), text, "rendered twice")

    def test_sample(self) -> None:
        """A sample has the size that is asked for and is the same for the same seed."""
        every = mutants("m", "A = [1, 2, 3, 4, 5, 6]")
        chosen = sample(every, 4, 7)
        self.assertEqual((len(every), len(chosen)), (12, 4))
        self.assertEqual(chosen, sample(every, 4, 7))
        self.assertNotEqual(chosen, sample(every, 4, 8))
        self.assertEqual(chosen, [mutant for mutant in every if mutant in chosen])
        self.assertEqual(sample(every, 12, 7), every)


class ImportsTests(SynchronousTestCase):
    """Which tests are asked."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).resolve()

    def write(self, **files: str) -> None:
        """Write modules; `__` in a name is a folder."""
        for name, text in files.items():
            path = self.root / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def test_direct(self) -> None:
        """Tests that import the module are asked, the one of its name first."""
        self.write(
            txsticky__core__wire="",
            tests__test_api="from txsticky.core.wire import Kind",
            tests__worker__test_wire="from txsticky.core import wire",
            tests__test_other="import txsticky.core",
            tests__integration__test_all="import txsticky.core.wire",
            tests__test_readme="import txsticky.core.wire",
        )
        found = tests_for("txsticky.core.wire", self.root)
        self.assertEqual(found, ["tests.worker.test_wire", "tests.test_api"])

    def test_own(self) -> None:
        """If tests of the module's package import it, no others are asked."""
        self.write(
            txsticky__core__wire="",
            tests__core__messages__test_frames="import txsticky.core.wire",
            tests__core__test_wire="import txsticky.core.wire",
            tests__test_api="import txsticky.core.wire",
        )
        found = tests_for("txsticky.core.wire", self.root)
        self.assertEqual(found, ["tests.core.test_wire", "tests.core.messages.test_frames"])

    def test_indirect(self) -> None:
        """If none imports it, those are asked that import what imports it."""
        self.write(
            txsticky__secure="",
            txsticky__door="def f():\n    from .secure import A",
            tests__test_door="import txsticky.door",
            tests__test_other="",
        )
        self.assertEqual(tests_for("txsticky.secure", self.root), ["tests.test_door"])
        self.assertEqual(tests_for("txsticky.door", self.root), ["tests.test_door"])

    def test_kin(self) -> None:
        """The tests of a module of its package that imports it are asked as well, no others."""
        self.write(
            txsticky__core__cookies="",
            txsticky__core__keys="from . import cookies",
            txsticky__worker="from .core import cookies",
            tests__test_cookies="import txsticky.core.cookies",
            tests__test_keys="import txsticky.core.keys",
            tests__test_route="import txsticky.core.keys",
            tests__test_worker="import txsticky.worker",
        )
        found = tests_for("txsticky.core.cookies", self.root)
        self.assertEqual(found, ["tests.test_cookies", "tests.test_keys"])

    def test_shared(self) -> None:
        """The tests that share a module of the tests that imports it are asked."""
        self.write(
            txsticky__gate="",
            tests__cases="import txsticky.gate",
            tests__test_door="from .cases import A",
            tests__test_gate="import txsticky.gate",
        )
        found = tests_for("txsticky.gate", self.root)
        self.assertEqual(found, ["tests.test_gate", "tests.test_door"])

    def test_beside(self) -> None:
        """Tests of the module's own folder that reach it by other modules come last."""
        self.write(
            txsticky__core__http__crew="",
            txsticky__core__http__fleet="from . import crew",
            tests__core__http__story="import txsticky.core.http.fleet",
            tests__core__http__test_crew="import txsticky.core.http.crew",
            tests__core__http__test_a_stop="from . import story",
            tests__core__http__test_else="",
            tests__core__test_far="import txsticky.core.http.fleet",
        )
        found = tests_for("txsticky.core.http.crew", self.root)
        self.assertEqual(found, ["tests.core.http.test_crew", "tests.core.http.test_a_stop"])

    def test_none(self) -> None:
        """What nothing imports has no tests."""
        self.write(txsticky__a="import txsticky.b", txsticky__b="import txsticky.a")
        self.assertEqual(tests_for("txsticky.a", self.root), [])

    def test_relative(self) -> None:
        """Relative imports are seen, of modules and packages."""
        self.write(a__b="from . import c\nfrom .d import e\nfrom ..f import g")
        found = set(imported("a.x.b", self.root / "a" / "b.py"))
        self.assertTrue({"a.x.c", "a.x.d", "a.x.d.e", "a.f.g"} <= found, found)

    def test_all_have_tests(self) -> None:
        """Every module of core/ has a unit test that imports it."""
        lonely = [
            name
            for name, path in sources(ROOT).items()
            if name.startswith("txsticky.core.") and path.name != "__init__.py"
            if not tests_for(name, ROOT)
        ]
        self.assertEqual(lonely, [])

    def test_rounds(self) -> None:
        """The tests that bear a module's name are asked before all others."""
        own, other = "tests.core.test_wire", "tests.core.test_fire"
        self.assertEqual(rounds("txsticky.core.wire", [own, other]), [[own], [other]])
        self.assertEqual(rounds("txsticky.core.mire", [own, other]), [[own, other]])
        self.assertEqual(rounds("txsticky.core.wire", []), [])


class WitnessesTests(SynchronousTestCase):
    """Which tests are asked first."""

    SOURCE = """
        def double(a):
            return 2 * a

        def call(a, f=double):
            return f(
                a,
            )
    """

    def asked(self, number: int, in_function: bool, *witnesses: Witness) -> list[str]:
        """The names of the tests that are asked of a change of this line, in their order."""
        places = order(witnesses, number, in_function)
        return sorted((n for n in places if places[n] >= 0), key=places.__getitem__)

    def test_order(self) -> None:
        """Tests that run the line come first, then those of the module; quick ones first."""
        seen = (
            Witness("far", 0.1),
            Witness("near", 0.2, {3}),
            Witness("slow", 0.4, {7}),
            Witness("quick", 0.3, {3, 7}),
        )
        self.assertEqual(self.asked(7, False, *seen), ["quick", "slow", "near", "far"])
        self.assertEqual(self.asked(7, True, *seen), ["quick", "slow"])

    def test_nothing_seen(self) -> None:
        """A change of what no test of this process was seen in is asked of all."""
        self.assertEqual(self.asked(7, True, Witness("b", 0.2), Witness("a", 0.1)), ["a", "b"])

    def test_statement_of_many_lines(self) -> None:
        """A line that nothing was seen in is part of what begins above it."""
        found = self.asked(9, True, Witness("above", 0.1, {3}), Witness("here", 0.2, {8, 10}))
        self.assertEqual(found, ["here"])

    def test_watch(self) -> None:
        """What each test runs of the module is seen, in its thread and in others."""
        path = Path(self.mktemp())
        space: dict[str, Any] = {}
        code = compile(textwrap.dedent(self.SOURCE), str(path), "exec")
        watch = Watch(path)
        try:
            exec(code, space)
            watch.hook("a", True)
            space["double"](1)
            watch.hook("a", False)
            watch.hook("b", True)
            thread = threading.Thread(target=space["double"], args=(2,))
            thread.start()
            thread.join()
            space["call"](3, f=int)
            watch.hook("b", False)
        finally:
            watch.write(path)
        first, second = read(path)
        self.assertEqual((first.name, first.lines), ("a", {3}))
        self.assertEqual(second.name, "b")
        self.assertTrue({3, 6, 7} <= second.lines, second)


class EquivalentsTests(SynchronousTestCase):
    """The list of mutants that are no holes."""

    MUTANT = Mutant("m", "f", 3, "a < b", "a < b -> a <= b", str)

    def test_covers(self) -> None:
        """A mutant is known by module, function, line and change, wherever it stands."""
        entry = Equivalent("m", "f", "a < b", "why", "a < b -> a <= b")
        self.assertTrue(entry.covers(self.MUTANT))
        for other in (
            Equivalent("n", "f", "a < b", "why"),
            Equivalent("m", "g", "a < b", "why"),
            Equivalent("m", "f", "a < c", "why"),
            Equivalent("m", "f", "a < b", "why", "a < b -> a > b"),
        ):
            self.assertFalse(other.covers(self.MUTANT), other)

    def test_any_change(self) -> None:
        """Without a change, every change of the line is meant."""
        self.assertTrue(Equivalent("m", "f", "a < b", "why").covers(self.MUTANT))

    def test_list(self) -> None:
        """Each entry of the list names a module and gives a reason."""
        known = sources(ROOT)
        for entry in equivalents():
            self.assertIn(entry.module, known)
            self.assertGreater(len(entry.reason.split()), 3, entry)

    def test_list_is_of_today(self) -> None:
        """Each entry of the list covers a mutant: what it names has not gone elsewhere."""
        known = sources(ROOT)
        made = {
            module: mutants(module, known[module].read_text())
            for module in {entry.module for entry in equivalents()}
        }
        lost = [e for e in equivalents() if not any(e.covers(m) for m in made[e.module])]
        self.assertEqual(lost, [])


class ReportTests(SynchronousTestCase):
    """The sum."""

    def test_share(self) -> None:
        """Equivalent mutants do not count for or against."""
        report = Report(Counter(caught=97, survived=3, equivalent=50))
        self.assertEqual(report.share, 0.97)
        self.assertEqual(str(report), "caught 97, survived 3, equivalent 50: 97.0%")
        self.assertEqual(Report(Counter(equivalent=1)).share, 1)

    def test_modules(self) -> None:
        """Packages and files may be named; what is no module of the package is told."""
        tag = "txsticky.core.routing.tag"
        self.assertEqual(chosen_modules([tag, "txsticky/core/routing/tag.py"]), [tag])
        self.assertIn(tag, chosen_modules(["txsticky/core"]))
        for name in ("txsticky.nonsuch", "tests.shells"):
            self.assertRaises(KeyError, chosen_modules, [name])


class HuntTests(SynchronousTestCase):
    """Mutants of a small project, really run."""

    MODULE = """
        def bigger(a, b):
            return a if a > b else b

        def forever():
            n = 3
            while n:
                n -= 1

        def untested():
            return b"1"
    """
    TESTS = """
        from twisted.trial.unittest import TestCase
        from txsticky.small import bigger, forever

        class Tests(TestCase):
            def test_bigger(self):
                self.assertEqual([bigger(1, 2), bigger(2, 1)], [2, 2])

            def test_ends(self):
                forever()
    """

    def hunted(self, tests: str) -> subprocess.CompletedProcess[str]:
        """Run the mutator on a project of one module."""
        root = Path(self.mktemp()).resolve()
        for path, text in (
            ("txsticky/__init__.py", ""),
            ("txsticky/small.py", textwrap.dedent(self.MODULE)),
            ("tests/__init__.py", ""),
            ("tests/test_small.py", textwrap.dedent(tests)),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        for name in ("__main__.py", "durations.py", "mutants"):
            os.symlink(HERE / name, root / "tests" / name)
        script = (
            "import sys, pathlib; from tests.mutants import hunt, __main__ as m;"
            f"hunt.ROOT = pathlib.Path({str(root)!r}); hunt._TIMES = 0; hunt._MORE = 3;"
            "sys.exit(m.main(['txsticky.small', '--most', '1000']))"
        )
        return subprocess.run(
            [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120
        )

    def test_hunt(self) -> None:
        """Wrong answers and endless loops are caught; what no test looks at survives."""
        done = self.hunted(self.TESTS)
        self.assertEqual(done.stderr, "")
        *survived, report, total = done.stdout.splitlines()
        self.assertEqual(
            {line.rpartition("[")[2].rstrip("]") for line in survived},
            {
                "a > b -> a >= b",  # both are right when they are equal
                "3 -> 4",
                "3 -> 2",
                "n -> not n",
                "return None",
                "b'1' -> b'1!'",
            },
        )
        self.assertIn('survived: txsticky.small:11 untested: return b"1"  [return None]', survived)
        every = len(mutants("m", textwrap.dedent(self.MODULE)))
        caught = every - len(survived)
        self.assertTrue(total.startswith(f"caught {caught}, survived 6, equivalent 0: "), total)
        self.assertEqual(report, f"txsticky.small: {total}")
        self.assertEqual(done.returncode, 1)

    def test_failing_tests(self) -> None:
        """Tests that fail on the clean source are told, and nothing is counted."""
        done = self.hunted(self.TESTS.replace("[2, 2]", "[2, 3]"))
        self.assertIn("they fail on the clean source", done.stderr)
        self.assertNotIn("caught", done.stdout)
        self.assertEqual(done.returncode, 1)
