"""``--log-config``: what is read, and where a fault is."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.errors import ConfigError
from txsticky.system.logs.config_file import apply_log_config, read_log_config

INI = """
[loggers]
keys = root, shop

[handlers]
keys = file

[formatters]
keys = plain

[logger_root]
handlers =

[logger_shop]
level = DEBUG
qualname = txsticky.test.shop
propagate = 0
handlers = file

[handler_file]
class = FileHandler
formatter = plain
args = ({path!r},)

[formatter_plain]
format = shop: %(message)s
"""


def dictionary(path: str) -> dict[str, object]:
    """The configuration as a dictionary."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "shop: %(message)s"}},
        "handlers": {"file": {"class": "logging.FileHandler", "filename": path,
                              "formatter": "plain"}},
        "loggers": {"txsticky.test.shop": {"level": "DEBUG", "handlers": ["file"],
                                           "propagate": False}},
    }  # fmt: skip


class LogConfigCase(SynchronousTestCase):
    """A file of the operator's."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        root, shop = logging.getLogger(), logging.getLogger("txsticky.test.shop")
        self.patch(root, "handlers", list(root.handlers))
        self.addCleanup(root.setLevel, root.level)
        self.addCleanup(self.close, shop)

    def close(self, logger: logging.Logger) -> None:
        while logger.handlers:
            logger.handlers[0].close()
            logger.removeHandler(logger.handlers[0])

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def wrong(self, name: str, text: str) -> str:
        """Why a file is refused, behind its name."""
        path = self.write(name, text)
        error = self.assertRaises(ConfigError, apply_log_config, path)
        start = f"--log-config cannot be {path!r}: "
        self.assertTrue(str(error).startswith(start), str(error))
        return str(error).removeprefix(start)


class FormTests(LogConfigCase):
    """The forms of a file."""

    def logged(self, path: str) -> str:
        """What comes of a line, once a file is applied."""
        apply_log_config(path)
        logging.getLogger("txsticky.test.shop").debug("open")
        return (self.folder / "log").read_text()

    def test_json(self) -> None:
        """A JSON file is for dictConfig."""
        text = json.dumps(dictionary(str(self.folder / "log")))
        self.assertEqual(self.logged(self.write("log.json", text)), "shop: open\n")

    def test_ini(self) -> None:
        """A file of another name is for fileConfig, and existing loggers stay."""
        existing = logging.getLogger("txsticky.test.other")
        path = self.write("log.ini", INI.format(path=str(self.folder / "log")))
        self.assertEqual(self.logged(path), "shop: open\n")
        self.assertFalse(existing.disabled)

    def test_yaml(self) -> None:
        """A YAML file is for dictConfig, read by PyYAML."""
        yaml = mock.Mock()
        yaml.safe_load = json.loads  # JSON is YAML
        self.patch(sys, "modules", {**sys.modules, "yaml": yaml})
        text = json.dumps(dictionary(str(self.folder / "log")))
        for name in ("log.yaml", "log.yml"):
            self.assertIn("shop: open\n", self.logged(self.write(name, text)))

    def test_read_alone(self) -> None:
        """Reading a file changes nothing yet."""
        read_log_config(self.write("log.json", json.dumps(dictionary(str(self.folder / "log")))))
        self.assertFalse((self.folder / "log").exists())


class FaultTests(LogConfigCase):
    """What is wrong with a file, and where."""

    def test_missing(self) -> None:
        """A file that is not there is refused."""
        error = self.assertRaises(ConfigError, read_log_config, "/none/log.json")
        self.assertIn("it cannot be read (No such file or directory)", str(error))

    def test_binary(self) -> None:
        """A file that is no text is refused."""
        path = self.folder / "log.json"
        path.write_bytes(b"{}\xff")
        error = self.assertRaises(ConfigError, read_log_config, str(path))
        self.assertIn("byte 2 is no UTF-8", str(error))

    def test_json(self) -> None:
        """A fault of JSON is told with line and column."""
        said = self.wrong("log.json", '{"version": 1,\n "handlers" {}}')
        self.assertEqual(said, "line 2, column 13: Expecting ':' delimiter.")
        self.assertIn("one dictionary", self.wrong("log.json", "[]"))
        self.assertIn("nested too deeply", self.wrong("log.json", "[" * 100_000))

    def test_dictionary(self) -> None:
        """A fault in a dictionary is told with the name of the part."""
        fields = dictionary("/none/log")
        said = self.wrong("log.json", json.dumps(fields))
        self.assertIn("Unable to configure handler 'file': FileNotFoundError", said)
        self.assertIn("version", self.wrong("log.json", "{}"))
        fields = {"version": 1, "loggers": {"shop": {"level": "LOUD"}}}
        self.assertIn("'shop'", self.wrong("log.json", json.dumps(fields)))

    def test_ini(self) -> None:
        """A fault of an INI file is told with its line."""
        self.assertIn("line 2", self.wrong("log.ini", "\nkeys = a\n"))
        self.assertIn("line 3", self.wrong("log.ini", "[loggers]\nkeys = a\nwhat\n"))
        self.assertIn("line 3", self.wrong("log.ini", "[loggers]\nkeys = a\n[loggers]\n"))

    def test_ini_sections(self) -> None:
        """A section that is missing, or that cannot be done, is named."""
        self.assertIn("[handlers] with its keys", self.wrong("log.ini", "[loggers]\nkeys = root\n"
                                                             "[logger_root]\n"))  # fmt: skip
        text = INI.format(path="/tmp/x").replace("[handler_file]", "[handler_pile]")
        self.assertIn("[handler_file] is missing, which [handlers] names",
                      self.wrong("log.ini", text))  # fmt: skip
        said = self.wrong("log.ini", INI.format(path="/none/log"))
        self.assertIn("[handler_file]: FileNotFoundError", said)

    def test_yaml(self) -> None:
        """Without PyYAML a YAML file is refused; with it a fault has line and column."""
        self.patch(sys, "modules", {**sys.modules, "yaml": None})
        self.assertIn("needs PyYAML", self.wrong("log.yaml", "version: 1"))

        class YAMLError(Exception):
            problem = "found a tab"
            problem_mark = mock.Mock(line=2, column=4)

        yaml = mock.Mock(YAMLError=YAMLError)
        yaml.safe_load.side_effect = YAMLError
        self.patch(sys, "modules", {**sys.modules, "yaml": yaml})
        self.assertEqual(self.wrong("log.yaml", "x"), "line 3, column 5: found a tab.")
