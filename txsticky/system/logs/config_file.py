"""
``--log-config``: a file for Python's `logging.config`, as uvicorn takes it.

A file whose name ends in ``.json``, ``.yaml`` or ``.yml`` is a dictionary for
`logging.config.dictConfig`, any other is an INI file for `logging.config.fileConfig`.
"""

from __future__ import annotations

import configparser
import importlib
import json
import logging.config
import traceback
from collections.abc import Callable
from typing import Any

from ...errors import ConfigError


def read_log_config(path: str) -> Callable[[], None]:
    """
    Read a configuration of `logging`.

    :returns: what applies it (`apply_log_config`).
    :raises ConfigError: it cannot be read; the sentence tells the place.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise _wrong(path, f"it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise _wrong(path, f"byte {error.start} is no UTF-8") from None
    if path.endswith(".json"):
        return _dictionary(path, _json(path, text))
    if path.endswith((".yaml", ".yml")):
        return _dictionary(path, _yaml(path, text))
    parsed = _ini(path, text)
    return lambda: logging.config.fileConfig(parsed, disable_existing_loggers=False)


def apply_log_config(path: str) -> None:
    """
    Configure `logging` in this process.

    :raises ConfigError: the file cannot be read, or what it says cannot be done; the sentence
        tells the place.
    """
    apply = read_log_config(path)
    try:
        apply()
    except Exception as error:
        cause = error.__cause__
        said = f"{error}: {_told(cause)}" if cause is not None else _told(error)
        raise _wrong(path, _section(error) + said) from error


def _wrong(path: str, hint: str) -> ConfigError:
    return ConfigError(option="--log-config", value=path, hint=hint)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _section(error: Exception) -> str:
    """Tell the section of an INI file that `fileConfig` was at: its errors do not."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        section = frame.f_locals.get("section")
        if isinstance(section, configparser.SectionProxy):
            return f"[{section.name}]: "
    return ""


def _dictionary(path: str, value: object) -> Callable[[], None]:
    if not isinstance(value, dict):
        raise _wrong(path, "it has to be one dictionary, with a version and what is configured")
    fields: dict[str, Any] = value
    return lambda: logging.config.dictConfig(fields)


def _json(path: str, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _wrong(path, f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _wrong(path, "it is nested too deeply") from None


def _yaml(path: str, text: str) -> object:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        hint = "YAML needs PyYAML (pip install pyyaml); JSON and INI need nothing"
        raise _wrong(path, hint) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise _wrong(path, place + str(getattr(error, "problem", None) or error)) from None
    except RecursionError:
        raise _wrong(path, "it is nested too deeply") from None


def _ini(path: str, text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    try:
        parsed.read_string(text, path)
    except configparser.ParsingError as error:  # MissingSectionHeaderError as well
        line = getattr(error, "lineno", None) or error.errors[0][0]
        raise _wrong(path, f"line {line}: it is neither [a section] nor name = value") from None
    except configparser.Error as error:
        line = getattr(error, "lineno", None)
        raise _wrong(path, f"line {line}: {error.message}" if line else error.message) from None
    for kind in ("logger", "handler", "formatter"):
        if not parsed.has_option(f"{kind}s", "keys"):
            raise _wrong(path, f"[{kind}s] with its keys is missing")
        for name in parsed.get(f"{kind}s", "keys", raw=True).split(","):
            if name.strip() and not parsed.has_section(f"{kind}_{name.strip()}"):
                raise _wrong(path, f"[{kind}_{name.strip()}] is missing, which [{kind}s] names")
    return parsed
