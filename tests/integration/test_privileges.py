"""`--user`: root runs no code that this user may write, and gives it what only root may read."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import pair
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request
from tests.integration.secure import NAME
from tests.integration.test_service_manager import for_nobody

APPS = "tests.integration.heirs"
UPGRADED = "The new program has taken over."
RELOADED = "The reload is complete."
#: A module that writes down who runs it, and then steps aside for the one that is meant.
PLANTED = """
import importlib, os, sys
with open({record!r}, "a") as file:
    file.write(f"{{os.geteuid()}} {{__name__}}\\n")
path = sys.path[:]
sys.path[:] = [p for p in path if os.path.abspath(p or ".") != os.path.dirname(__file__)]
del sys.modules[__name__]
try:
    sys.modules[__name__] = importlib.import_module(__name__)
finally:
    sys.path[:] = path
"""
NAMES = [
    "OpenSSL",
    "attr",
    "attrs",
    "autobahn",
    "base64",
    "enum",
    "json",
    "logging",
    "random",
    "select",
    "signal",
    "sitecustomize",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "twisted",
    "txaio",
    "txsticky",
    "typing",
    "usercustomize",
    "watchfiles",
    "zope",
]
SCRIPT = "from txsticky.__main__ import main\nmain()\n"
TWIST = "from twisted.application.twist._twist import Twist\nTwist.main()\n"


class PrivilegeCase(SynchronousTestCase):
    """
    A cluster whose primary is root, and whose workers are nobody.

    :ivar top: a folder of root's.
    :ivar folder: the working directory, which is nobody's own.
    """

    def setUp(self) -> None:
        if os.geteuid():
            raise SkipTest("only root can run workers as another user")
        found = for_nobody()
        if found is None:
            raise SkipTest("the user nobody can run no interpreter that has what is needed")
        self.command, environment = found
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="txsticky-")))
        self.top.chmod(0o755)
        self.folder, self.library = self.top / "work", self.top / "library"
        for folder in (self.folder, self.library):
            folder.mkdir()
            shutil.chown(folder, "nobody", pwd.getpwnam("nobody").pw_gid)
        paths = ["", str(self.library), environment["PYTHONPATH"]]
        self.environment = {**environment, "PYTHONPATH": os.pathsep.join(paths)}

    def cluster(self, app: str, *options: str, workers: int = 1, probe: str = "/") -> Cluster:
        """A cluster, as root starts it."""
        options = ("--user", "nobody", *options)
        target = app if ":" in app else f"{APPS}:{app}"
        cluster = Cluster(
            target, *options, workers=workers, probe=probe, environment=self.environment
        )
        cluster.command, cluster.folder = self.command, self.folder
        return cluster

    def upgrade(self, cluster: Cluster) -> None:
        """USR2, until it has taken over."""
        before = cluster.log().count(UPGRADED)
        cluster.signal(signal.SIGUSR2)
        until(lambda: cluster.log().count(UPGRADED) > before, 30, UPGRADED)

    def reload(self, cluster: Cluster) -> None:
        """HUP, until it is complete."""
        before = cluster.log().count(RELOADED)
        cluster.signal(signal.SIGHUP)
        until(lambda: cluster.log().count(RELOADED) > before, 30, RELOADED)

    def refused(self, cluster: Cluster) -> str:
        """Start it in vain; the last error that it tells."""
        cluster.probe = ""
        cluster.spawn()
        self.assertNotEqual(cluster.wait(30), 0)
        said = cluster.log()
        cluster.stop()
        self.assertNotIn("Traceback", said)
        return [line for line in said.splitlines() if "#error]" in line or "txsticky: " in line][-1]


class PlantedTests(PrivilegeCase):
    """Modules that the workers' user puts where it may write."""

    def plant(self) -> None:
        """Put modules there."""
        self.record = self.top / "record"
        self.record.touch()
        self.record.chmod(0o666)
        for folder in (self.folder, self.library):
            for name in NAMES:
                (folder / f"{name}.py").write_text(PLANTED.format(record=str(self.record)))
            plugins = folder / "twisted" / "plugins"
            plugins.mkdir(parents=True)
            (plugins / "planted.py").write_text(PLANTED.format(record=str(self.record)))

    def ran(self) -> dict[str, set[str]]:
        """Which modules were run, by the number of the user."""
        ran: dict[str, set[str]] = {}
        for line in self.record.read_text().splitlines():
            user, name = line.split()
            ran.setdefault(user, set()).add(name)
        return ran

    def live(self, cluster: Cluster) -> None:
        """Everything that starts an interpreter."""
        first = cluster.kill_worker(1)
        until(lambda: cluster.workers().get(1, first) != first, 20, "the worker is replaced")
        until(lambda: cluster.answers("/"), 20, "it serves")
        self.reload(cluster)
        self.upgrade(cluster)
        self.reload(cluster)
        self.upgrade(cluster)
        self.assertEqual(json.loads(cluster.get("/").body)["uid"], pwd.getpwnam("nobody").pw_uid)

    def test_module(self) -> None:
        """`python -m txsticky`: no interpreter that it starts runs them as root."""
        with self.cluster("web") as cluster:
            self.plant()
            self.live(cluster)
        ran = self.ran()
        self.assertNotIn("0", ran)
        self.assertIn("txsticky", ran[str(pwd.getpwnam("nobody").pw_uid)])  # they would have run

    def test_script(self) -> None:
        """The `txsticky` script runs no planted module as root, nor when it is executed anew."""
        script = self.top / "txsticky"
        script.write_text(SCRIPT)
        # What Python's own start imports from PYTHONPATH is the operator's to see to.
        self.environment["PYTHONPATH"] = self.environment["PYTHONPATH"].removeprefix(
            f":{self.library}:"
        )
        with self.cluster("wsgi"):
            self.plant()
        again = self.cluster("wsgi")
        again.arguments[:2] = [str(script)]
        self.record.write_text("")
        with again:
            self.live(again)
        self.assertNotIn("0", self.ran())

    def test_twist(self) -> None:
        """`twist txsticky`: no interpreter that it starts runs them as root."""
        script = self.top / "twist"
        script.write_text(TWIST)
        cluster = self.cluster("web", "--status", "0")
        cluster.arguments[:2] = [str(script), "--log-format", "text", "txsticky"]
        with cluster:
            self.plant()
            self.live(cluster)
        self.assertNotIn("0", self.ran())

    def test_check(self) -> None:
        """--check-config loads the application as that user."""
        (self.folder / "own.py").write_text(
            "import os\nprint('loaded by', os.geteuid())\nfrom tests.integration.heirs import web\n"
        )
        cluster = self.cluster("own:web", "--check-config", "--interface", "web", probe="")
        cluster.spawn()
        self.assertEqual(cluster.wait(30), 0)
        self.assertIn(f"loaded by {pwd.getpwnam('nobody').pw_uid}", cluster.log())
        cluster.stop()

    def test_said(self) -> None:
        """The log says if the user may write what root has to run."""
        shutil.chown(self.top, "nobody")
        script = self.top / "txsticky"
        script.write_text(SCRIPT)
        cluster = self.cluster("web")
        cluster.arguments[:2] = [str(script)]
        with cluster:
            self.assertIn(f"--user nobody can write {self.top}", cluster.log())


class AccountTests(PrivilegeCase):
    """The user and the group of the workers."""

    def test_groups(self) -> None:
        """A worker has the user's groups alone, and can become no other user again."""
        (self.folder / "own.py").write_text(
            "import json, os\n"
            "def app(environ, start_response):\n"
            "    try:\n"
            "        os.setuid(0)\n"
            "    except PermissionError:\n"
            "        pass\n"
            "    told = [*os.getresuid(), *os.getresgid(), sorted(os.getgroups())]\n"
            "    start_response('200 OK', [])\n"
            "    return [json.dumps(told).encode()]\n"
        )
        entry = pwd.getpwnam("nobody")
        with self.cluster("own:app") as cluster:
            self.assertEqual(
                json.loads(cluster.get("/").body),
                [entry.pw_uid] * 3
                + [entry.pw_gid] * 3
                + [sorted(os.getgrouplist("nobody", entry.pw_gid))],
            )

    def test_cannot_run(self) -> None:
        """A user that cannot run this interpreter is told in one sentence."""
        interpreter = self.top / "private" / "python3"
        interpreter.parent.mkdir(0o700)
        shutil.copy(os.path.realpath(self.command[0]), interpreter)
        self.command = (str(interpreter),)
        said = self.refused(self.cluster("web"))
        self.assertIn("--user cannot be 'nobody': as that user", said)

    def test_keys(self) -> None:
        """A key that only root may read serves, after a reload and in every reactor as well."""
        papers = self.top / "papers"
        papers.mkdir(0o700)
        made = pair(papers, NAME)
        tls = ("--tls-cert", made.certificate, "--tls-key", made.key)
        (self.folder / "both.py").write_text(
            "from twisted.internet import reactor\n"
            "from tests.integration.heirs import asgi as app\n"
        )
        context = ssl.create_default_context(cadata=Path(made.certificate).read_text())
        for app in ("web", "both:app"):
            with self.cluster(app, *tls, probe="") as cluster:
                for act in (lambda: None, self.reload, self.upgrade, self.reload):
                    if act is not self.cluster:
                        act(*([cluster] if act.__name__ != "<lambda>" else []))
                    until(lambda: "is ready." in cluster.log(), 20, "it serves")
                    plain = Connection(cluster.port).socket
                    with Connection.over(
                        context.wrap_socket(plain, server_hostname=NAME)
                    ) as connection:
                        told = json.loads(connection.ask(request("GET", "/")).body)
                    self.assertEqual(told["uid"], pwd.getpwnam("nobody").pw_uid)
            self.assertEqual(
                subprocess.run(
                    [*self.command, "-c", f"open({made.key!r})"], user="nobody", capture_output=True
                ).returncode,
                1,
            )

    def test_key_has_gone(self) -> None:
        """If the key cannot be read any more, a reload says why and the old workers stay."""
        papers = self.top / "papers"
        papers.mkdir(0o700)
        made = pair(papers, NAME)
        tls = ("--tls-cert", made.certificate, "--tls-key", made.key)
        with self.cluster("web", *tls, probe="") as cluster:
            until(lambda: "is ready." in cluster.log(), 20, "it serves")
            before = cluster.workers()
            os.unlink(made.key)
            cluster.signal(signal.SIGHUP)
            until(lambda: f"the key {made.key} cannot be read" in cluster.log(), 20, "it is said")
            self.assertEqual(cluster.workers().keys(), before.keys())


class AccessLogTests(PrivilegeCase):
    """An access log that only root may write."""

    def setUp(self) -> None:
        super().setUp()
        self.logs = self.top / "logs"
        self.logs.mkdir(0o700)
        self.path = self.logs / "access.log"

    def written(self, cluster: Cluster, target: str, path: Path | None = None) -> None:
        """Ask, until both workers have written that down."""

        def done() -> bool:
            cluster.get(target)
            text = (path or self.path).read_text()
            return {line.split()[-2] for line in text.splitlines() if target in line} == {"1", "2"}

        until(done, 15, f"both workers have written {target}")

    def test_rotated(self) -> None:
        """Workers of every interface write to it, also after it was rotated, and new ones too."""
        for interface in ("web", "wsgi", "asgi"):
            options = ("--interface", interface, "--access-log", str(self.path))
            with self.cluster(interface, *options, workers=2) as cluster:
                self.written(cluster, "/first")
                self.path.rename(self.logs / "access.log.1")
                cluster.signal(signal.SIGUSR1)
                until(self.path.exists, 10, "it is opened anew")
                self.written(cluster, "/second")
                self.reload(cluster)
                self.written(cluster, "/third")
                self.upgrade(cluster)
                self.path.rename(self.logs / "access.log.2")
                cluster.signal(signal.SIGUSR1)
                until(self.path.exists, 10, "it is opened anew")
                self.written(cluster, "/fourth")
                self.assertNotIn("/first", self.path.read_text())
                self.path.unlink()
                os.kill(cluster.workers()[1], signal.SIGUSR1)
                until(self.path.exists, 10, "a worker has asked for it")
            shutil.rmtree(self.logs)
            self.logs.mkdir(0o700)

    def test_rotated_in_vain(self) -> None:
        """If no new file can be opened, the old one goes on, and that is said."""
        options = ("--access-log", str(self.path))
        with self.cluster("web", *options, workers=2) as cluster:
            self.written(cluster, "/first")
            self.path.rename(self.logs / "old")
            self.path.mkdir()
            cluster.signal(signal.SIGUSR1)
            until(lambda: "The old access log stays open" in cluster.log(), 10, "that is said")
            self.written(cluster, "/second", self.logs / "old")

    def test_cannot_be_opened(self) -> None:
        """A log that root cannot open either is told in one sentence at the start."""
        self.path.mkdir()
        said = self.refused(self.cluster("web", "--access-log", str(self.path)))
        self.assertIn(f"--access-log cannot be '{self.path}'", said)

    def test_no_link(self) -> None:
        """Where the user may write, root follows no link that it has put there."""
        precious = self.top / "precious"
        precious.write_text("")
        path = self.folder / "access.log"
        path.symlink_to(precious)
        said = self.refused(self.cluster("web", "--access-log", str(path)))
        self.assertIn(f"--access-log cannot be '{path}'", said)
        self.assertEqual(precious.read_text(), "")

    def test_roots_file(self) -> None:
        """Where the user may write, a file of root's own is root's to open."""
        mine, theirs = self.folder / "mine.log", self.folder / "theirs.log"
        mine.touch(0o600)
        for path in (mine, theirs):
            with self.cluster("web", "--access-log", str(path), workers=2) as cluster:
                self.written(cluster, "/there", path)
        self.assertEqual(theirs.stat().st_uid, pwd.getpwnam("nobody").pw_uid)
