"""An access log that only root may write: who opens it, and how it is handed over."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SkipTest

from tests.shells import ShellCase, open_descriptors
from txsticky.config import Config
from txsticky.errors import ConfigError
from txsticky.primary.supervision.provision import Provision
from txsticky.system.logs import shared as sharedlog
from txsticky.system.logs.shared import HandedLog, SharedLog
from txsticky.system.trust import Identity


class LogCase(ShellCase):
    """
    A log in a folder that the workers' user may write or not.

    :ivar writable: the folders that the user may write.
    """

    def setUp(self) -> None:
        super().setUp()
        self.top = Path(self.mktemp()).absolute()
        self.folder = self.top / "folder"
        self.folder.mkdir(parents=True)
        self.path = self.folder / "log"
        self.writable: set[str] = set()
        self.identity = mock.Mock(spec=Identity)
        self.identity.may_write.side_effect = lambda path: path in self.writable
        self.log = SharedLog(str(self.path), self.identity)
        self.addCleanup(self.log.close)

    def leads_to(self, path: Path) -> bool:
        """Whether what is open is that file."""
        return os.path.samestat(os.fstat(self.log.descriptor), os.stat(path))


class RootsFolderTests(LogCase):
    """A folder where the user may not write."""

    def test_open(self) -> None:
        """The file is made, to be read by the group at most, and appended to."""
        self.path.write_text("before\n")
        self.log.open()
        os.write(self.log.descriptor, b"after\n")
        self.assertEqual(self.path.read_text(), "before\nafter\n")
        self.path.unlink()
        self.log.open()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode) & ~0o640, 0)

    def test_not_inherited(self) -> None:
        """Programs that root starts do not get the log."""
        self.log.open()
        self.assertFalse(os.get_inheritable(self.log.descriptor))

    def test_reopen(self) -> None:
        """After a rotation the log is the new file, which is to be handed over."""
        self.log.open()
        self.path.rename(self.folder / "old")
        before = open_descriptors()
        self.assertTrue(self.log.reopen())
        self.assertTrue(self.leads_to(self.path))
        self.assertEqual(len(open_descriptors()), len(before))

    def test_reopen_in_vain(self) -> None:
        """If no new file can be opened, the old one stays, and the log says so."""
        self.log.open()
        old = self.folder / "old"
        self.path.rename(old)
        self.path.mkdir()
        with mock.patch.object(sharedlog, "log") as log:
            self.assertFalse(self.log.reopen())
        self.assertIn(str(self.path), str(log.error.call_args.kwargs["error"]))
        self.assertTrue(self.leads_to(old))

    def test_link(self) -> None:
        """A link that root has put there is followed."""
        real = self.top / "real"
        self.path.symlink_to(real)
        self.log.open()
        self.assertTrue(self.leads_to(real))

    def test_relative(self) -> None:
        """A relative path stays where it led when the log was made."""
        self.log = SharedLog(os.path.relpath(self.path), self.identity)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir("/")
        self.log.open()
        self.assertTrue(self.leads_to(self.path))
        self.log.close()


class OthersFolderTests(LogCase):
    """A folder where the user may write."""

    def setUp(self) -> None:
        super().setUp()
        self.writable = {str(self.folder)}

    def opened(self) -> bool:
        """Whether root opens what is there; if not, it leaves no descriptor open."""
        before = open_descriptors()
        self.log.open()
        if self.log.descriptor < 0:
            self.assertEqual(open_descriptors(), before)
        return self.log.descriptor >= 0

    def test_missing(self) -> None:
        """A file that is to be made is the workers'."""
        self.assertFalse(self.opened())
        self.assertFalse(self.path.exists())

    def test_own(self) -> None:
        """A file that is root's own is root's to open."""
        self.path.touch()
        self.assertTrue(self.opened())
        self.assertTrue(os.get_blocking(self.log.descriptor))

    def test_theirs(self) -> None:
        """A file of another user is the workers'."""
        if os.geteuid():
            raise SkipTest("only root can give a file to another user")
        self.path.touch()
        os.chown(self.path, 7001, -1)
        self.assertFalse(self.opened())

    def test_links(self) -> None:
        """No link is followed, of either kind."""
        precious = self.top / "precious"
        precious.touch()
        self.path.symlink_to(precious)
        self.assertFalse(self.opened())
        self.path.unlink()
        os.link(precious, self.path)
        self.assertFalse(self.opened())

    def test_no_file(self) -> None:
        """What is no plain file is not opened, and nothing waits for its other end."""
        os.mkfifo(self.path)
        self.assertFalse(self.opened())
        self.path.unlink()
        self.path.mkdir()
        self.assertFalse(self.opened())

    def test_further_up(self) -> None:
        """Nothing is opened below a folder that the user can exchange as a whole."""
        self.path.touch()
        self.writable.add(str(self.top))
        self.assertFalse(self.opened())

    def test_nothing_to_hand_over(self) -> None:
        """Where the workers open the log themselves, a rotation hands nothing over."""
        self.log.open()
        self.assertFalse(self.log.reopen())


class HandedTests(LogCase):
    """An access log in a worker."""

    def test_copies(self) -> None:
        """Each opening is a descriptor of its own, of the file that came last."""
        new = self.folder / "new"
        handed = HandedLog(os.open(self.path, os.O_WRONLY | os.O_CREAT))
        copies = [handed.open()]
        handed.take(os.open(new, os.O_WRONLY | os.O_CREAT))
        copies.append(handed.open())
        for copy, path in zip(copies, (self.path, new), strict=True):
            self.assertTrue(os.path.samestat(os.fstat(copy), os.stat(path)))
            os.close(copy)
        os.close(handed._descriptor)


class ProvisionTests(LogCase):
    """What workers are given."""

    def test_same_user(self) -> None:
        """Workers of this process's own user are given nothing: they open and read themselves."""
        config = Config(access_log=str(self.path), tls_cert="c", tls_key="k")
        provision = Provision(config, None)
        provision.open()
        provision.rotate([])
        provision.close()
        self.assertEqual((provision.log, provision.files()), (-1, {}))
        self.assertFalse(self.path.exists())

    def test_keys(self) -> None:
        """Workers of another user get the files of TLS; what cannot be read is left out."""
        key = self.folder / "key"
        key.write_bytes(bytes(range(256)))
        config = Config(tls_cert="/no/cert", tls_key=str(key))
        files = Provision(config, self.identity).files()
        self.assertEqual(files, {str(key): bytes(range(256)).decode("latin-1")})

    def test_output(self) -> None:
        """A log on the standard output is opened by no process."""
        provision = Provision(Config(access_log="-"), self.identity)
        provision.open()
        self.assertEqual(provision.log, -1)

    def test_cannot_be_opened(self) -> None:
        """A log that root cannot open either is an error of the option."""
        self.path.mkdir()
        provision = Provision(Config(access_log=str(self.path)), self.identity)
        error = self.assertRaises(ConfigError, provision.open)
        self.assertIn("--access-log", str(error))
