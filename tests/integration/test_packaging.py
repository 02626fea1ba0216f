"""The package as a user installs it: in a fresh environment, editable and as a wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any, ClassVar, cast

from twisted.trial.unittest import SkipTest, TestCase

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "twisted/plugins/txsticky_plugin.py"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return what it printed; its failure is the test's."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


class Environment:
    """A fresh virtual environment that borrows the dependencies of the running one.

    They are lent through a path file, whose directories are searched last and whose own path
    files are not read: an installation of txsticky in the running environment stays out of sight
    behind the one under test.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        venv.create(where, symlinks=True, with_pip=False)
        paths = sysconfig.get_paths(vars={"base": str(where), "platbase": str(where)})
        self.site = Path(paths["purelib"])
        lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (self.site / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)))

    def pip(self, *arguments: str | Path) -> str:
        """Run the running interpreter's pip upon this environment, without any index."""
        pip = (sys.executable, "-m", "pip", "--python", self.where / "bin" / "python")
        return run(*pip, "--disable-pip-version-check", *arguments, cwd=self.where)

    def install(self, *arguments: str | Path) -> None:
        """Install txsticky alone: no dependency, no isolated build, hence no network."""
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *arguments)

    def script(self, name: str, *arguments: str) -> str:
        """Run an installed script from a directory where nothing of the tree lies."""
        return run(self.where / "bin" / name, *arguments, cwd=self.where)

    def twist(self, *arguments: str) -> str:
        """Run Twisted's command line as this environment sees the plugins."""
        python = self.where / "bin" / "python"
        return run(python, "-P", "-m", "twisted", *arguments, cwd=self.where)


def listed(text: str) -> bool:
    """Whether ``twist --help`` names txsticky as a command of its own."""
    return any(line.split()[:1] == ["txsticky"] for line in text.splitlines())


class PackagingTests(TestCase):
    """
    What lands in an environment, and that Twisted finds it there.

    :cvar made: what is made once: the environment of an editable install, and the wheel.
    """

    made: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        try:
            import setuptools
        except ImportError as error:
            raise SkipTest("setuptools is not installed") from error
        if int(setuptools.__version__.split(".")[0]) < 77:
            raise SkipTest("setuptools is older than the build needs: pip install -e '.[test]'")
        self.temporary = Path(self.mktemp()).resolve()
        self.temporary.mkdir()
        # A copy, so that building leaves nothing in the tree and stale files get into nothing.
        self.tree = self.temporary / "tree"
        self.tree.mkdir()
        for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.rst"):
            shutil.copy(ROOT / name, self.tree)
        ignore = shutil.ignore_patterns("__pycache__", "dropin.cache")
        for name in ("txsticky", "twisted"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=ignore)

    def wheel(self) -> Path:
        """Build the wheel and return its path."""
        if "wheel" not in self.made:
            environment = Environment(self.temporary / "builds")
            options = ("--no-index", "--no-deps", "--no-build-isolation")
            environment.pip("wheel", *options, "-w", "wheels", self.tree)
            (self.made["wheel"],) = (environment.where / "wheels").glob("*.whl")
        return cast(Path, self.made["wheel"])

    def editable(self) -> Environment:
        """Make an environment with an editable install."""
        if "editable" not in self.made:
            environment = Environment(self.temporary / "editable")
            environment.install("-e", self.tree)
            self.made["editable"] = environment
        return cast(Environment, self.made["editable"])

    def test_editable(self) -> None:
        """After an editable install `twist --help` lists txsticky."""
        self.assertTrue(listed(self.editable().twist("--help")))

    def test_wheel(self) -> None:
        """After an install from the wheel `twist --help` lists txsticky, and without it not."""
        environment = Environment(self.temporary / "wheel")
        environment.install(self.wheel())
        self.assertTrue((environment.site / PLUGIN).is_file())
        self.assertTrue(listed(environment.twist("--help")))
        environment.pip("uninstall", "--yes", "txsticky")
        self.assertFalse(listed(environment.twist("--help")))

    def test_cache(self) -> None:
        """Twisted's cache of plugins, written before the install, does not hide txsticky."""
        environment = Environment(self.temporary / "cache")
        other = environment.site / "twisted" / "plugins"
        other.mkdir(parents=True)
        (other / "another_plugin.py").write_text("")
        self.assertFalse(listed(environment.twist("--help")))
        self.assertTrue((other / "dropin.cache").exists())
        environment.install(self.wheel())
        self.assertTrue(listed(environment.twist("--help")))
        self.assertTrue(listed(environment.twist("--help")))

    def test_options(self) -> None:
        """
        `twist txsticky`, `python -m txsticky` and the script take the same options.

        But for --log-format, which is twist's own and stands before `txsticky` there.
        """
        environment = self.editable()

        def options(text: str) -> list[str]:
            words = (line.split() for line in text.splitlines())
            return [w for line in words for w in line if w.startswith("--") and line[0][0] == "-"]

        script = options(environment.script("txsticky", "--help"))
        self.assertIn("--sticky=", script)
        twist = options(environment.twist("txsticky", "--help"))
        self.assertEqual(twist, [word for word in script if word != "--log-format="])
        python = environment.where / "bin" / "python"
        module = run(python, "-P", "-m", "txsticky", "--help", cwd=environment.where)
        self.assertEqual(options(module), script)

    def test_source(self) -> None:
        """The source distribution holds documentation, tests and all else that a packager needs."""
        tree = self.temporary / "whole"
        ignore = shutil.ignore_patterns(
            ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".nox", "dropin.cache",
            "_trial_temp*", "_build", "build", "dist", "*.egg-info",
        )  # fmt: skip
        shutil.copytree(ROOT, tree, ignore=ignore)
        expected = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
        build = (sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", "dist")
        if importlib.util.find_spec("build") is None:
            raise SkipTest("build is not installed: pip install -e '.[test]'")
        run(*build, tree, cwd=self.temporary)
        (path,) = (self.temporary / "dist").glob("*.tar.gz")
        with tarfile.open(path) as archive:
            held = {name.partition("/")[2] for name in archive.getnames()}
        self.assertIn("docs/index.rst", held)
        self.assertIn("tests/integration/test_packaging.py", held)
        self.assertEqual(expected - held, {".gitignore"})

    def test_files(self) -> None:
        """The wheel holds all of txsticky/ and the plugin, and no `__init__.py` of Twisted's."""
        with zipfile.ZipFile(self.wheel()) as archive:
            held = {name for name in archive.namelist() if ".dist-info/" not in name}
        package = (path for path in (self.tree / "txsticky").rglob("*") if path.is_file())
        expected = {path.relative_to(self.tree).as_posix() for path in package}
        self.assertEqual(held, {PLUGIN, *expected})
        self.assertIn("txsticky/py.typed", held)
