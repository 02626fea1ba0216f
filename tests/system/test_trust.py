"""Whose code runs as root: what another user may write, and what is left out for that."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import txsticky
from txsticky.system import trust
from txsticky.system.trust import Identity, distrust, own_command, own_environment, trusted_path

USER = Identity(7001, 7002, (7002, 7003))


class FolderCase(SynchronousTestCase):
    """A tree of root's, in which some things are another user's."""

    def setUp(self) -> None:
        if os.geteuid():
            raise SkipTest("only root can give files to others")
        top = Path(self.mktemp()).absolute()
        top.mkdir(parents=True)
        # Where the test stands others may have rights; what is above it does not matter here.
        self.top = top
        lstat = os.lstat

        def above(path: str) -> os.stat_result:
            found = lstat(path)
            outside = not str(path).startswith(str(top))
            return os.stat_result((0o40755, *found[1:4], 0, 0, *found[6:])) if outside else found

        self.patch(trust.os, "lstat", above)

    def make(self, name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> str:
        """Make a folder."""
        path = self.top / name
        path.mkdir(parents=True)
        os.chown(path, uid, gid)
        path.chmod(mode)
        return str(path)

    def link(self, name: str, target: str, uid: int = 0) -> str:
        """Make a symbolic link."""
        path = self.top / name
        path.symlink_to(target)
        os.chown(path, uid, 0, follow_symlinks=False)
        return str(path)


class MayWriteTests(FolderCase):
    """What a user may write."""

    def test_roots(self) -> None:
        """What is root's is not to be written by others."""
        self.assertFalse(USER.may_write(self.make("a/b/c")))

    def test_own(self) -> None:
        """What is the user's own is writable, whatever its mode, and so is all that is below."""
        self.assertTrue(USER.may_write(self.make("own", 0o500, uid=7001)))
        self.assertTrue(USER.may_write(self.make("own/below")))

    def test_groups(self) -> None:
        """What one of the user's groups may write is writable; the mode for others is moot then."""
        self.assertTrue(USER.may_write(self.make("a", 0o775, gid=7002)))
        self.assertTrue(USER.may_write(self.make("b", 0o775, gid=7003)))
        self.assertFalse(USER.may_write(self.make("c", 0o775, gid=7004)))
        self.assertFalse(USER.may_write(self.make("d", 0o757, gid=7003)))

    def test_everybody(self) -> None:
        """What all users may write is, with all below; under the sticky bit it alone is."""
        self.assertTrue(USER.may_write(self.make("open", 0o777)))
        self.assertTrue(USER.may_write(self.make("open/below")))
        self.assertTrue(USER.may_write(self.make("tmp", 0o1777)))
        self.assertFalse(USER.may_write(self.make("tmp/roots")))
        self.assertTrue(USER.may_write(self.make("tmp/own", uid=7001)))

    def test_links(self) -> None:
        """A link counts with its own folder, with what it leads to, and with all between."""
        self.make("own", uid=7001)
        roots = self.make("roots")
        self.assertFalse(USER.may_write(self.link("good", roots)))
        self.assertFalse(USER.may_write(self.link("relative", "roots")))
        self.assertTrue(USER.may_write(self.link("bad", str(self.top / "own"))))
        self.assertTrue(USER.may_write(self.link("own/link", roots)))
        self.assertTrue(USER.may_write(self.link("far", str(self.top / "own" / "link"))))
        self.assertTrue(USER.may_write(self.link("up", "own/../roots")))
        self.make("tmp", 0o1777)
        self.assertTrue(USER.may_write(self.link("tmp/theirs", roots, uid=7001)))
        self.assertFalse(USER.may_write(self.link("tmp/ours", roots)))

    def test_endless_link(self) -> None:
        """A link that leads to itself is not to be trusted."""
        self.assertTrue(USER.may_write(self.link("ring", "ring")))

    def test_missing(self) -> None:
        """What is not there cannot be written where the folder cannot."""
        self.assertFalse(USER.may_write(self.make("roots") + "/missing/deeper"))
        self.assertTrue(USER.may_write(self.make("own", uid=7001) + "/missing"))

    def test_relative(self) -> None:
        """What depends on where a process stands is not to be trusted."""
        for path in ("", ".", "lib", "../lib"):
            self.assertTrue(USER.may_write(path), path)

    @given(st.lists(st.sampled_from(["..", ".", "roots", "own", "missing", ""]), max_size=8))
    def test_any_path(self, names: list[str]) -> None:
        """A path through the user's folder is never trusted, however it is written."""
        for name, uid in (("roots", 0), ("own", 7001)):
            if not (self.top / name).exists():
                self.make(name, uid=uid)
        path = "/".join([str(self.top), *names])
        here, met = str(self.top), False
        for name in names:
            here = os.path.normpath(os.path.join(here, name))
            if not os.path.exists(here):
                break
            met |= here.startswith(str(self.top / "own"))
        if met:
            self.assertTrue(USER.may_write(path))


class PathTests(FolderCase):
    """PYTHONPATH."""

    def test_trusted(self) -> None:
        """What the user may write and what is relative is left out; the rest keeps its order."""
        good, own, other = self.make("a"), self.make("b", uid=7001), self.make("c")
        text = os.pathsep.join(["", good, ".", own, "lib", other])
        self.assertEqual(trusted_path(text, USER), f"{good}:{other}")

    def test_of_the_program(self) -> None:
        """The running program's path loses what the user may write; the rest stays."""
        good, own = self.make("a"), self.make("b", uid=7001)
        home = str(Path(txsticky.__file__).parent.parent)
        path = ["/bin", own, good, os.getcwd(), home, "/lib"]
        with mock.patch.object(os, "getcwd", return_value=os.getcwd()):
            distrust(path, f"{own}:{good}::{home}", USER)
        expected = ["/bin", good, home, "/lib"]
        self.assertEqual([p for p in path if p != os.getcwd() or p == home], expected)
        self.assertNotIn(own, path)

    def test_of_this_package(self) -> None:
        """This package's folder stays, whatever the user may write."""
        home = str(Path(txsticky.__file__).absolute().parent.parent)
        path = ["/lib", home]
        with mock.patch.object(trust, "trusted_path", return_value=""):
            distrust(path, f"/lib:{home}", USER)
        self.assertEqual(path, [home])

    def test_environment(self) -> None:
        """An interpreter that runs as root gets what is trusted; no other one differs."""
        good, own = self.make("a"), self.make("b", uid=7001)
        environ = {"PYTHONPATH": f"{own}:{good}", "A": "B"}
        self.assertEqual(own_environment(environ, USER), {"PYTHONPATH": good})
        self.assertEqual(own_environment(environ, None), {})
        self.assertEqual(own_environment({"A": "B"}, USER), {})

    def test_written(self) -> None:
        """Paths are told that are there and that the user can write."""
        good, own = self.make("a"), self.make("b", uid=7001)
        missing = str(Path(own, "missing"))
        self.assertEqual(trust.written([good, own, missing], USER), [own])


class CommandTests(SynchronousTestCase):
    """The command line that starts the program once more."""

    def command(
        self, spec: object, argument: str, safe: bool, identity: Identity | None
    ) -> list[str]:
        """What follows the interpreter."""
        main = types.ModuleType("__main__")
        main.__spec__ = spec  # type: ignore[assignment]
        flags = types.SimpleNamespace(safe_path=safe)
        with (
            mock.patch.dict(sys.modules, {"__main__": main}),
            mock.patch.object(sys, "argv", [argument]),
            mock.patch.object(sys, "flags", flags),
            mock.patch.object(sys, "orig_argv", ["python", "-m", "program", "x"]),
        ):
            return own_command(identity)

    def test_same(self) -> None:
        """The command is the same where the workers are the same user as the primary."""
        self.assertEqual(self.command(object(), "p.py", False, None), ["-m", "program", "x"])

    def test_safe(self) -> None:
        """Where workers are another user, -m and -c do not look into the working directory."""
        safe = ["-P", "-m", "program", "x"]
        self.assertEqual(self.command(object(), "p.py", False, USER), safe)
        self.assertEqual(self.command(None, "-c", False, USER), safe)

    def test_once(self) -> None:
        """The option -P is said once, however often the program is executed anew."""
        self.assertEqual(self.command(object(), "p.py", True, USER), ["-m", "program", "x"])

    def test_script(self) -> None:
        """A script has its own folder first, and keeps it."""
        self.assertEqual(self.command(None, "/bin/p", False, USER), ["-m", "program", "x"])
