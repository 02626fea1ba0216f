"""What the documentation lists is what the code has: metrics, settings, words, times, examples."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import attrs
import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.watched import WatchedCase
from txsticky.admin.display import HEADINGS
from txsticky.admin.metrics import expose
from txsticky.config import Config
from txsticky.core.lifecycle import timing

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_extensions"))

import settings  # noqa: E402
from drawings import PICTURES  # noqa: E402
from svg import PHONE  # noqa: E402

NAME = re.compile(r"\b(?:txsticky|process)_[a-z_]+\b")


class MetricsTests(WatchedCase):
    """The list of metrics, the alerts and the dashboard."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        state = self.look()
        usage = attrs.evolve(state.primary, cpu=1.0, memory=1)  # which the kernel tells
        text = expose(attrs.evolve(state, primary=usage)).decode()
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        self.labels = {sample.name: set(sample.labels) for sample in samples}

    def test_list(self) -> None:
        """The page explains every metric, and none that there is not."""
        page = (DOCS / "operate" / "metrics.rst").read_text()
        told = set(re.findall(r"``((?:txsticky|process)_[a-z_]+)``", page))
        self.assertEqual(told, set(self.labels))

    def expressions(self) -> Iterator[str]:
        """What the alerts and the dashboard ask of Prometheus."""
        rules = yaml.safe_load((ROOT / "examples/prometheus/txsticky-alerts.yml").read_text())
        yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
        board = json.loads((ROOT / "examples/grafana/txsticky.json").read_text())
        targets = [target for panel in board["panels"] for target in panel["targets"]]
        yield from (target["expr"] for target in targets)
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["query"]["query"]

    def test_expressions(self) -> None:
        """The alerts and the dashboard ask for metrics that there are, by labels that they have."""
        asked = list(self.expressions())
        self.assertGreater(len(asked), 20)
        for expression in asked:
            for name, labels in re.findall(r"([a-z_]+)(?:\{(.*?)\})?", expression):
                if not NAME.fullmatch(name):
                    continue
                self.assertIn(name, self.labels, expression)
                wanted = set(re.findall(r"(\w+)(?:=~|!=|=)", labels)) - {"job", "instance"}
                self.assertEqual(wanted - self.labels[name], set(), expression)

    def test_legends(self) -> None:
        """A curve of the dashboard is named by labels that its metric has."""
        board = json.loads((ROOT / "examples/grafana/txsticky.json").read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                (name,) = set(NAME.findall(target["expr"]))
                used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                self.assertEqual(used - self.labels[name], set(), target)


class SettingsTests(SynchronousTestCase):
    """docs/settings.rst."""

    def test_all(self) -> None:
        """Every setting has its place on the page, once."""
        page = (DOCS / "settings.rst").read_text()
        named = " ".join(re.findall(r"^\.\. settings:: (.*)$", page, re.MULTILINE)).split()
        listed = [name for name in named if name != settings.REST]
        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(set(listed) | set(settings.rest(page)), set(settings.SETTINGS))

    def test_examples(self) -> None:
        """The line of a setting for a file is TOML."""
        for name, (_, told) in settings.SETTINGS.items():
            self.assertEqual(set(tomllib.loads(settings.example(name, told))), {name})


class PictureTests(SynchronousTestCase):
    """The pictures."""

    def test_phone(self) -> None:
        """A picture is as narrow as a phone, or can be scrolled; all of it is inside."""
        for name, draw in PICTURES.items():
            picture = draw()
            tree = ElementTree.fromstring(picture.svg())
            self.assertIn("overflow-x: auto", tree.attrib["style"])
            self.assertEqual("min-width" in tree[0].attrib["style"], picture.width > PHONE, name)
            for element in tree.iter("text"):
                x, y = float(element.attrib["x"]), float(element.attrib["y"])
                self.assertTrue(0 <= x <= picture.width and 0 <= y <= picture.height, name)

    def test_times(self) -> None:
        """The timelines have the times of the code."""
        whole = Config().graceful_timeout
        for name, times in {
            "stop": (timing.requests_end(whole), whole, timing.killed(whole)),
            "quick": (timing.quick(whole), timing.killed(timing.quick(whole))),
            "reload": (timing.pinned_end(whole), timing.requests_end(whole)),
            "start": (Config().queue_timeout, Config().start_timeout),
        }.items():
            text = PICTURES[name]().text
            for time in times:
                self.assertIn(f"{time:g} s", text, name)


class ControlTests(SynchronousTestCase):
    """docs/operate/ctl.rst."""

    def test_columns(self) -> None:
        """The table of workers that is shown has the columns of the program."""
        page = (DOCS / "operate" / "ctl.rst").read_text()
        (line,) = re.findall(r"^ +(worker  state .*)$", page, re.MULTILINE)
        self.assertEqual(tuple(line.split()), HEADINGS)


class SystemdTests(SynchronousTestCase):
    """examples/systemd."""

    def test_hardened(self) -> None:
        """systemd calls the exposure of the hardened service as little as the page tells."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        parts = [ROOT / "examples/systemd" / name for name in ("txsticky.service", "hardened.conf")]
        unit = folder / "txsticky.service"
        unit.write_text("".join(part.read_text() for part in parts))
        command = ("systemd-analyze", "security", "--offline=true", "--threshold=40", str(unit))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
