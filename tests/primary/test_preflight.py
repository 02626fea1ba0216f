"""What is seen before anything is opened."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from txsticky.config import Config
from txsticky.errors import ConfigError
from txsticky.primary.preflight import BESIDES, EACH, check, check_descriptors, read_secret

SECRET = b"q8Xb0Yk3ZrT1mN5cV7eW9uJ2hG4fD6sA"


class DescriptorsTests(SynchronousTestCase):
    """Whether there are descriptors for so many workers."""

    def test_enough(self) -> None:
        """So many workers may run as have their descriptors; one more is told what to do."""
        for options, each in (({}, EACH + 1), ({"accept": "workers"}, EACH + 2)):
            most = BESIDES + 100 * each
            check_descriptors(Config(workers=100, **options), most)
            error = self.assertRaises(
                ConfigError, check_descriptors, Config(workers=101, **options), most
            )
            self.assertEqual(
                str(error),
                f"--workers cannot be 101: the limit of open files leaves {most} descriptors, and"
                f" each worker takes {each}; raise it (ulimit -n, or LimitNOFILE of systemd), or"
                " run 100 at most.",
            )

    def test_none(self) -> None:
        """Where not even one worker could run, no number is named."""
        error = self.assertRaises(ConfigError, check_descriptors, Config(workers=1), 10)
        self.assertTrue(str(error).endswith(" of systemd)."), error)

    def test_before_the_start(self) -> None:
        """Too many workers are seen before anything is opened, by the limit raised as it may be."""
        limits = [100, 200]
        self.patch(resource, "getrlimit", lambda which: tuple(limits))
        self.patch(resource, "setrlimit", lambda which, wanted: limits.__setitem__(0, wanted[0]))
        error = self.assertRaises(ConfigError, check, Config(workers=512))
        self.assertIn("leaves 188 descriptors", str(error))


class SecretFileTests(SynchronousTestCase):
    """The file of --secret-file."""

    def file(self, content: bytes = SECRET + b"\n", mode: int = 0o600) -> str:
        """The path of a file."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        return path

    def refused(self, path: str) -> str:
        """The sentence with which a file is refused, before anything is opened."""
        error = str(self.assertRaises(ConfigError, check, Config(secret_file=path)))
        self.assertTrue(error.startswith(f"--secret-file cannot be {path!r}: "), error)
        return error

    def test_read(self) -> None:
        """The secret is the file's text; a group may read it, as where root owns it."""
        for mode in (0o400, 0o600, 0o640):
            self.assertEqual(read_secret(self.file(mode=mode)), SECRET)

    def test_exposed(self) -> None:
        """A file that others may read, or a group write, is refused, and chmod is named."""
        for mode in (0o644, 0o602, 0o620, 0o601):
            error = self.refused(self.file(mode=mode))
            self.assertIn(f"other users may use it (mode {mode:o}); chmod 600", error)

    def test_absent(self) -> None:
        """A file that is not there is not made; the command that the sentence tells makes it."""
        path = os.path.join(self.mktemp(), "the secret")
        os.mkdir(os.path.dirname(path))
        error = self.refused(path)
        self.assertFalse(os.path.exists(path))
        command = error.partition(": (")[2].rstrip(".")
        subprocess.run(["sh", "-c", f"({command}"], check=True)
        self.assertEqual(len(read_secret(path)), 44)

    def test_no_file(self) -> None:
        """A folder, a device or a pipe is refused at once."""
        pipe = self.mktemp()
        os.mkfifo(pipe)
        for path in ("/", "/dev/zero", pipe):
            self.assertIn("it is no file", self.refused(path))

    def test_unreadable(self) -> None:
        """Why a file cannot be opened is told."""
        self.assertIn("Not a directory", self.refused(os.path.join(self.file(), "secret")))

    def test_no_secret(self) -> None:
        """What is wrong with the content is told."""
        self.assertIn("it has 0 bytes", self.refused(self.file(b"\n")))
        self.assertIn("something else", self.refused(self.file(os.urandom(10_000))))

    def test_check_config(self) -> None:
        """--check-config refuses a secret file as the start does."""
        path = self.file(mode=0o644)
        done = subprocess.run(
            [sys.executable, "-m", "txsticky", "--check-config", "--secret-file", path],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("other users may use it", done.stderr)
