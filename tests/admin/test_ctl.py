"""``txsticky ctl``: its command line, what it prints, and what shells complete."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.watched import WatchedCase
from txsticky.admin import completion, ctl, display
from txsticky.admin.display import Cell, Style, duration, table
from txsticky.admin.steering import Steering
from txsticky.admin.verbs import OPTIONS, SUBCOMMANDS, VERBS

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = "\x1b"


class Terminal(io.StringIO):
    """A stream to a terminal."""

    def isatty(self) -> bool:
        return True


class Server:
    """Answers one request at a UNIX socket with some bytes."""

    def __init__(self, path: str, answer: bytes) -> None:
        self.asked = b""
        self._answer = answer
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(path)
        self._sock.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._sock.accept()
        with connection:
            self.asked = connection.recv(4096)
            connection.sendall(self._answer)

    def close(self) -> None:
        self._thread.join(10)
        self._sock.close()


class CtlCase(SynchronousTestCase):
    """The command."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp(prefix="txsticky-")
        self.addCleanup(shutil.rmtree, folder)
        self.path = str(Path(folder, "ctl"))
        self.patch(os, "environ", {})

    def run_ctl(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output, and what was said of errors."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = ctl.main(arguments)
            except SystemExit as exit:
                code = exit.code if isinstance(exit.code, int) else 1
        return code, out.getvalue(), err.getvalue()

    def wrong(self, *arguments: str) -> str:
        """A wrong command line; it has to be told in one line."""
        code, out, err = self.run_ctl(*arguments)
        self.assertEqual((code, out), (ctl.USAGE, ""))
        self.assertTrue(err.startswith("txsticky: ") and err.endswith(".\n"), err)
        self.assertEqual(err.count("\n"), 1)
        return err

    def answered(self, answer: bytes, *arguments: str) -> tuple[int, str, str]:
        """Run the command against a server that answers with these bytes."""
        self.server = Server(self.path, answer)
        try:
            return self.run_ctl("--control", self.path, *arguments)
        finally:
            self.server.close()


class CommandLineTests(CtlCase):
    """What is typed."""

    def test_wrong(self) -> None:
        """Each mistake is told in a line that says what would be right."""
        for arguments, part in (
            ((), "Say what to do; there are: status, workers"),
            (("restart",), "There is no verb 'restart'; there are: status, workers"),
            (("drain",), "such as `drain 2`"),
            (("kill", "two"), "such as `kill 2`"),
            (("add", "2"), "`add` takes no number, so not '2'"),
            (("status",), "Say --control PATH, or set TXSTICKY_CONTROL"),
            (("--loud", "status"), "--loud"),
            (("--shell-completion", "tcsh"), "tcsh"),
        ):
            self.assertIn(part, self.wrong(*arguments))

    def test_help(self) -> None:
        """The help names every verb and option."""
        code, out, err = self.run_ctl("--help")
        self.assertEqual((code, err), (0, ""))
        for word in (*(verb.name for verb in VERBS), *OPTIONS):
            self.assertIn(word, out)

    def test_request(self) -> None:
        """A verb goes as a JSON object in a line, with the number of its worker."""
        answer = b'{"ok": true, "text": "It is done."}\n'
        self.assertEqual(self.answered(answer, "drain", "2"), (0, "It is done.\n", ""))
        self.assertEqual(self.server.asked, b'{"verb": "drain", "worker": 2}\n')

    def test_printable(self) -> None:
        """What an application or a client chose does nothing to the terminal."""
        nasty = "a\x1b]0;owned\x07\n9  9  forged\u202e\ud800"
        shown = r"a\x1b]0;owned\x07\x0a9  9  forged\u202e\ud800" "\n"
        for verb, answer in (
            ("table", {"ok": True, "size": 1, "keys": [{"key": nasty, "worker": 1, "id": 3}]}),
            ("add", {"ok": True, "text": nasty}),
            ("add", {"ok": False, "error": nasty}),
        ):
            _, out, err = self.answered(json.dumps(answer).encode() + b"\n", verb)
            os.unlink(self.path)
            self.assertTrue((out + err).endswith(shown), out + err)
            self.assertEqual((out + err).count("\n"), 1 + (verb == "table"))

    def test_variable(self) -> None:
        """The socket's path may come from the environment."""
        os.environ[ctl.VARIABLE] = self.path
        server = Server(self.path, b'{"ok": true, "text": "Fine."}\n')
        self.addCleanup(server.close)
        self.assertEqual(self.run_ctl("reload"), (0, "Fine.\n", ""))

    def test_json(self) -> None:
        """With --json the answer is printed as it is."""
        answer = b'{"ok": true, "size": 0, "keys": []}\n'
        code, out, _ = self.answered(answer, "--json", "table")
        self.assertEqual((code, json.loads(out)), (0, {"size": 0, "keys": []}))

    def test_refused(self) -> None:
        """A refusal is one line on standard error, and the exit code is not 0."""
        answer = b'{"ok": false, "error": "There is no worker 9."}\n'
        self.assertEqual(
            self.answered(answer, "kill", "9"), (1, "", "txsticky: There is no worker 9.\n")
        )

    def test_nobody(self) -> None:
        """Where no server answers, one line says so."""
        code, out, err = self.run_ctl("--control", self.path, "status")
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(
            err, f"txsticky: No cluster answers at {self.path}: No such file or directory.\n"
        )

    def test_others(self) -> None:
        """What is no cluster is told as such: silence, nonsense, JSON of another kind."""
        for answer in (b"", b"220 mail.example ESMTP\r\n", b"[]\n", b"{}\n"):
            code, out, err = self.answered(answer, "status")
            self.assertEqual((code, out, err.count("\n")), (1, "", 1))
            os.unlink(self.path)


class DisplayTests(WatchedCase):
    """The answers as an operator reads them."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.steering = Steering(self.cluster, self.history)

    def shown(self, verb: str, style: Style = Style()) -> str:  # noqa: B008
        """The answer to a verb, as it is shown."""
        answer = json.loads(json.dumps(self.steering.answer(json.dumps({"verb": verb}).encode())))
        return display.shown(verb, answer, style)

    def test_workers(self) -> None:
        """The workers are a table that programs can read, too: words between spaces."""
        self.report(1, live=1234, requests=40, adopted=9, given=2, moved=3, lag=0.25)
        heads, first, second = self.shown("workers").splitlines()
        self.assertEqual(heads.split()[:4], ["worker", "state", "gen", "pid"])
        told = " ".join(first.split())
        self.assertEqual(told, "1 ready 1 1001 0 s 1,234 0.0 40 9 2 250.0 ms - - - 3")
        self.assertEqual(second.split()[:2], ["2", "ready"])

    def test_odd_states(self) -> None:
        """A suspect worker and a number that waits for one are told."""
        self.primary.workers.suspect(1, True)
        self.die_twice(1)
        first, second = self.shown("workers").splitlines()[1:]
        self.assertIn("ready, suspect", first)
        self.assertEqual(second.split()[:5], ["2", "starts", "in", "0", "s"])

    def test_leader(self) -> None:
        """The status tells which worker leads, if one does."""
        self.assertNotIn("leader", self.shown("status"))
        self.primary.leader.ready(2, True)
        self.assertIn("\nleader   worker 2, pid 1002\n", self.shown("status"))

    def test_status(self) -> None:
        """The status has a line that says all, the workers, and the last events."""
        text = self.shown("status")
        self.assertIn("running, 2 of 2 workers ready, generation 1\n", text)
        self.assertIn("shop:site (web) on 127.0.0.1:8080", text)
        self.assertIn("TAG 0, HIT 0", text)
        self.assertTrue(text.endswith("Worker 2 (id 2) is ready.\n"), text)

    def test_keys(self) -> None:
        """The table shows its keys, and how many more there are."""
        self.assertEqual(self.shown("table"), "No key is bound.\n")
        answer = {"size": 3, "keys": [{"key": "a key", "worker": 2, "id": 7}]}
        self.assertEqual(
            display.keys(answer, Style()), "worker  id  key\n     2   7  a key\nand 2 more\n"
        )

    def test_plain(self) -> None:
        """Colours are for what goes to a terminal, and for nothing else."""
        for verb in ("status", "workers"):
            self.assertNotIn(ESCAPE, self.shown(verb))
            painted = self.shown(verb, Style(colours=True))
            self.assertIn(ESCAPE, painted)

    def test_style(self) -> None:
        """Colours are for terminals that show them, unless NO_COLOR is set."""
        self.patch(os, "environ", {"TERM": "xterm"})
        self.assertTrue(Style.of(Terminal()).colours)
        self.assertFalse(Style.of(io.StringIO()).colours)
        for environ in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
            self.patch(os, "environ", environ)
            self.assertFalse(Style.of(Terminal()).colours, environ)


class TableTests(TestCase):
    """Tables and numbers."""

    def test_columns(self) -> None:
        """Numbers end below each other, texts begin so; colours do not count as width."""
        rows = [[Cell("1", "bold"), Cell("a")], [Cell("22"), Cell("bbb", "bad")]]
        plain = table(("n", "text"), rows, (1,), Style())
        self.assertEqual(plain, " n  text\n 1  a\n22  bbb\n")
        painted = table(("n", "text"), rows, (1,), Style(colours=True))
        for code in (*display.CODES.values(), "0"):
            painted = painted.replace(f"{ESCAPE}[{code}m", "")
        self.assertEqual([line.rstrip() for line in painted.splitlines()], plain.splitlines())

    def test_duration(self) -> None:
        """A duration has at most two units, the second only if it is not nothing."""
        for seconds, text in (
            (0.9, "0 s"),
            (59.9, "59 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (18720, "5 h 12 min"),
            (4 * 86400 + 3600, "4 d 1 h"),
        ):
            self.assertEqual(duration(seconds), text)


class CompletionTests(TestCase):
    """What shells complete."""

    def completed(self, *words: str) -> list[str]:
        """What bash offers for the last of these words."""
        script = "\n".join(
            [
                completion.bash(),
                "txsticky() { printf 'worker state\\n1 ready\\n12 ready\\n'; }",
                f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
                f"COMP_CWORD={len(words) - 1}",
                "_txsticky",
                'printf "%s\\n" "${COMPREPLY[@]}"',
            ]
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash(self) -> None:
        """bash completes the subcommands, verbs and options, and the numbers of workers."""
        if shutil.which("bash") is None:
            self.skipTest("not installed: bash")
        self.assertEqual(self.completed("txsticky", "c"), ["ctl"])
        self.assertEqual(self.completed("txsticky", ""), [each.name for each in SUBCOMMANDS])
        self.assertEqual(self.completed("txsticky", "publish", "--b"), ["--bus"])
        self.assertEqual(self.completed("txsticky", "publish", "--bus", ""), [])
        self.assertEqual(self.completed("txsticky", "ctl", "re"), ["remove", "reload"])
        self.assertEqual(
            self.completed("txsticky", "ctl", ""), [*(verb.name for verb in VERBS), *OPTIONS]
        )
        self.assertEqual(self.completed("txsticky", "ctl", "--js"), ["--json"])
        self.assertEqual(self.completed("txsticky", "ctl", "drain", "1"), ["1", "12"])
        self.assertEqual(self.completed("txsticky", "ctl", "--control", ""), [])
        self.assertEqual(self.completed("txsticky", "-w", ""), [])

    def test_syntax(self) -> None:
        """Each shell that is installed can read its script."""
        for shell, make in completion.SHELLS.items():
            if shutil.which(shell):
                done = subprocess.run(
                    [shell, "-n"], input=make(), capture_output=True, text=True, check=False
                )
                self.assertEqual((done.returncode, done.stderr), (0, ""), shell)

    def test_all_words(self) -> None:
        """Every verb and option is in every script."""
        for shell, make in completion.SHELLS.items():
            text = make()
            options = [name for command in SUBCOMMANDS for name in command.options]
            things = [*(verb.name for verb in VERBS), *(each.name for each in SUBCOMMANDS)]
            for word in (*things, *(name.removeprefix("--") for name in options)):
                self.assertIn(word, text, shell)

    def test_subcommands(self) -> None:
        """Each subcommand has a parser that takes the options that are told of it, and no other."""
        for command in SUBCOMMANDS:
            parser = importlib.import_module(command.module).parser()
            taken = {name for action in parser._actions for name in action.option_strings}
            self.assertEqual(taken - {"-h"}, set(command.options), command.name)


class StartTests(TestCase):
    """The start of the command."""

    def loaded(self, *arguments: str) -> Sequence[str]:
        """The modules that the command loads for itself."""
        script = (
            "import sys\n"
            f"sys.argv = ['txsticky', *{arguments!r}]\n"
            "from txsticky.__main__ import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print(*sys.modules, file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stderr.split()

    def test_fast(self) -> None:
        """The command loads nothing of Twisted or of the server: it answers at once."""
        loaded = self.loaded("ctl", "--help")
        self.assertIn("txsticky.admin.ctl", loaded)
        self.assertEqual({"twisted", "txsticky.primary.primary"} & set(loaded), set())
