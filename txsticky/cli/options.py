"""
The options of the command, from the four places where they can be given.

The command line wins over the environment (``TXSTICKY_KEEP_ALIVE=20``), the environment over the
file that ``--config`` names (``keep-alive = 20``, TOML), and the file over the default. All options
are made from the declarations in `txsticky.config.Config`.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
from twisted.logger import LogLevel, textFileLogObserver
from twisted.python import usage

from ..config import Config
from ..core.option import (
    Choice,
    Declaration,
    Flag,
    OptionType,
    Several,
    declared,
    default_shown,
    key,
    option,
    switch,
)
from ..errors import ConfigError
from ..system.logs.lines import at_level, level_named, text_observer
from . import aliases

#: The prefix of the environment variables that set options.
PREFIX = "TXSTICKY_"
#: Variables with this prefix that set no option: a worker's number, what an upgrade passes on, and
#: whether there is a template.
_OTHERS = frozenset(
    {
        "TXSTICKY_CONFIG",
        "TXSTICKY_HELD",
        "TXSTICKY_TEMPLATE",
        "TXSTICKY_TRIAL",
        "TXSTICKY_UPGRADE",
        "TXSTICKY_WORKER",
    }
)
#: The log level of ``twist`` by default.
_USUAL = LogLevel.info
#: From this likeness on (`difflib.SequenceMatcher.ratio`) a name is taken for a misspelt option.
_ALIKE = 0.8


@attrs.frozen(kw_only=True)
class CommandSettings:
    """Settings of the command alone, which the cluster does not need."""

    log_format: str = option(
        "text", Choice(("text", "json")), help="How the log is written: text or json"
    )


class Options(usage.Options):
    """The options of ``twist txsticky``."""

    synopsis = "[options] [MODULE:ATTRIBUTE]"
    longdesc = (
        "A sticky multi-worker server: each request reaches the worker that holds its session."
        " APP is a twisted.web Resource, an IProtocolFactory, a WSGI or an ASGI application;"
        " without it a demo is served. Each option can also stand in the environment"
        " (TXSTICKY_KEEP_ALIVE) and in the file of --config; the command line wins, then the"
        " environment. Signals: TERM stops gracefully, INT and QUIT quickly, HUP"
        " reloads the workers one by one, TTIN and TTOU run one more or less, USR1 reopens the"
        " logs, USR2 executes the program anew in place."
    )
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "TOML file with options, named as here without the dashes [none]"]
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["check-config", None, "Check the options, load the application once, and exit"]
    ]
    config: Config

    def getSynopsis(self) -> str:
        """Tell how the command is written; under `twist`, its own words stand in front."""
        if self.parent is None:
            return f"Usage: txsticky {self.synopsis}"
        return str(super().getSynopsis())

    def getUsage(self, width: int | None = None) -> str:
        """Tell the options, and apart from them what other programs call them."""
        every, width = self.longOpt, width or shutil.get_terminal_size().columns
        others = {name for _, alias in aliases.known() for name in alias.names}
        self.longOpt = [name for name in every if name.rstrip("=") not in others]
        text = super().getUsage(width)
        self.longOpt = every
        return f"{text}\n{aliases.help_text(width)}"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse a command line; of an option that there is not, say what to do in its place."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            names = [name.rstrip("=") for name in self.longOpt]
            raise usage.UsageError(aliases.hinted(str(error), names)) from None

    def parseArgs(self, *arguments: str) -> None:
        """Take APP; options may follow it."""
        if not arguments:
            return
        self["app"], *rest = arguments
        if rest:
            app = self["app"]
            if not rest[0].startswith("-"):
                raise usage.UsageError(
                    f"One application is served, not {app!r} and {rest[0]!r} too."
                )
            self.parseOptions(rest)
            if self["app"] != app:
                raise usage.UsageError(
                    f"One application is served, not {app!r} and {self['app']!r} too."
                )

    def settle(self, environ: Mapping[str, str]) -> None:
        """
        Make the configuration from all places, and check what can be checked without starting.

        :param environ: the environment.
        :raises ConfigError: a value is not allowed, or a name is no option's.
        """
        self.config = config_of(self, environ)

    def postOptions(self) -> None:
        """Make the configuration, and check it (`usage.Options`)."""
        aliases.take(self)
        outer: Any = self.parent
        if outer is not None and "fileLogObserverFactory" not in outer:
            outer = None
        if outer is not None and self["log-level"] is None and outer["logLevel"] is not _USUAL:
            self["log-level"] = outer["logLevel"].name.replace("warn", "warning")
        try:
            self.settle(os.environ)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None
        if outer is not None:
            log_as_text(outer, self.config.log_level, sys.argv)

    def opt_version(self) -> None:
        """Show the version and exit."""
        from .. import __version__

        print(f"txsticky {__version__}")
        sys.exit(0)


class CommandOptions(Options):
    """The options of ``txsticky``: ``twist`` has a log format of its own."""

    settings: CommandSettings

    def settle(self, environ: Mapping[str, str]) -> None:
        """Make the settings of the command as well (`Options.settle`)."""
        super().settle(environ)
        stored = read_file(self, environ)
        self.settings = CommandSettings(**said_of(CommandSettings, self, environ, stored))


def log_as_text(outer: dict[str, Any], level: str, arguments: Sequence[str]) -> None:
    """
    Have ``twist`` log as ``txsticky`` does.

    The log is text, also in a file or a pipe, unless JSON was asked for, and begins at a level.

    :param outer: the options of ``twist``, which do not tell whether a format was asked for.
    :param level: the lowest level that is logged.
    :param arguments: the command line, which does tell; an option may be shortened.
    """
    make = outer["fileLogObserverFactory"]
    asked = any(re.fullmatch("--log-fo(r(m(at?)?)?)?", a.partition("=")[0]) for a in arguments)
    if make is textFileLogObserver or not asked:
        make = text_observer
    outer["fileLogObserverFactory"] = lambda stream: at_level(make(stream), level)
    outer["logLevel"] = level_named("debug")  # the observer filters by level


def _appending(name: str, text: str) -> Callable[[usage.Options, str], None]:
    def opt(self: usage.Options, value: str) -> None:
        self.setdefault(name, []).append(value)

    opt.__doc__ = text
    return opt


def _offer(options: type[Options], settings: type) -> None:
    """Make the command line take what `settings` declares."""
    parameters = list(options.__dict__.get("optParameters", ()))
    flags = list(options.__dict__.get("optFlags", ()))
    for field, told in declared(settings):
        text = f"{told.help} [{default_shown(field)}]"
        if field.name == "app":
            continue
        if isinstance(told.kind, Flag):
            flags.append([key(field), told.short, told.help])
        elif isinstance(told.kind, Several):
            take = _appending(key(field), text)
            setattr(options, f"opt_{field.name}", take)
            if told.short:
                setattr(options, f"opt_{told.short}", take)
        else:
            parameters.append([key(field), told.short, None, text])
    options.optParameters = parameters
    options.optFlags = flags


def _offer_aliases(options: type[Options]) -> None:
    """Make the command line take what other programs call the options."""
    options.optParameters = options.optParameters + aliases.parameters()
    options.optFlags = options.optFlags + aliases.flags()
    for field, alias in aliases.known():
        if aliases.takes_several(field, alias):
            for name in alias.names:
                setattr(options, f"opt_{name.replace('-', '_')}", _appending(name, ""))


_offer(Options, Config)
_offer_aliases(Options)
_offer(CommandOptions, CommandSettings)


def config_of(options: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """
    Make the configuration of parsed options, the environment and the file that they name.

    :param options: the parsed command line.
    :param environ: the environment.
    :raises ConfigError: a value is not allowed, or a name is no option's.
    """
    stored = read_file(options, environ)
    check_names(environ, stored)
    fields = said_of(Config, options, environ, stored)
    for field, told in declared(Config):
        if told.found is not None and field.name not in fields:
            fields[field.name] = told.found(environ)
    return Config(**fields)


@attrs.frozen
class Stored:
    """
    A configuration file that was read.

    :param path: the path of the file; empty if there is no file.
    :param values: the values by the names of their options, with dashes.
    """

    path: str
    values: Mapping[str, Any]


def read_file(options: Mapping[str, Any], environ: Mapping[str, str]) -> Stored:
    """
    Read the file that ``--config`` or $TXSTICKY_CONFIG names.

    :param options: the parsed command line.
    :param environ: the environment.
    :raises ConfigError: the file cannot be read, or is not TOML.
    """
    path, place = options.get("config"), "--config"
    if path is None:
        path, place = environ.get("TXSTICKY_CONFIG"), "TXSTICKY_CONFIG"
    if not path:
        return Stored("", {})
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(option=place, value=path, hint=error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(option=place, value=path, hint=f"it is not TOML: {error}") from None
    return Stored(path, {name.replace("_", "-"): value for name, value in values.items()})


def check_names(environ: Mapping[str, str], stored: Stored) -> None:
    """
    Check that the names in the file and in the environment are those of options.

    In the file every other name is wrong. In the environment only a name that looks misspelt is:
    container platforms set variables that begin with the name of a service.

    :param environ: the environment.
    :param stored: the file.
    :raises ConfigError: a name is wrong.
    """
    known = [
        key(field) for settings in (Config, CommandSettings) for field, _ in declared(settings)
    ]
    meanings = {name: key(field) for field, alias in aliases.known() for name in alias.names}
    for name, value in stored.values.items():
        if name not in known:
            hint = "there is no such option"
            meant = difflib.get_close_matches(name, known, 1)
            if name in meanings:
                meant = [meanings[name]]
            if meant:
                hint += f"; there is {meant[0]}"
            raise ConfigError(option=f"{name} in {stored.path}", value=value, hint=hint)
    variables = [_variable(name) for name in known]
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in _OTHERS and name not in variables:
            bare = [variable.removeprefix(PREFIX) for variable in variables]
            meant = difflib.get_close_matches(name.removeprefix(PREFIX), bare, 1, _ALIKE)
            if meant:
                hint = f"there is no such option; there is {PREFIX}{meant[0]}"
                raise ConfigError(option=name, value=text, hint=hint)


def said_of(
    settings: type, options: Mapping[str, Any], environ: Mapping[str, str], stored: Stored
) -> dict[str, Any]:
    """
    Collect the given values of the fields of `settings`, each from the place that wins.

    :param settings: a class with declared options.
    :param options: the parsed command line.
    :param environ: the environment.
    :param stored: the file.
    :returns: the values by their fields' names; without fields that are given nowhere.
    :raises ConfigError: a value is not allowed; the sentence names its place.
    """
    fields: dict[str, Any] = {}
    for field, told in declared(settings):
        for place, given, read in _places(field, told, options, environ, stored):
            value = given
            try:
                value = read(given)
                told.kind.check(value)
            except ValueError as error:
                raise ConfigError(option=place, value=value, hint=str(error)) from None
            fields[field.name] = value
            break
    return fields


def _places(
    field: attrs.Attribute[Any],
    told: Declaration,
    options: Mapping[str, Any],
    environ: Mapping[str, str],
    stored: Stored,
) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """
    Yield the places where an option is given, the winner first.

    :returns: the place's name, the text or value that stands there, and the function that reads it.
    """
    kind, name = told.kind, key(field)
    typed = options.get(name)
    if typed is not None and (typed or not isinstance(kind, Flag)):
        yield "APP" if field.name == "app" else switch(field), typed, _read_typed(kind)
    variable = _variable(name)
    if environ.get(variable):
        yield variable, environ[variable], kind.read
    if name in stored.values:
        read = _as_tuple if isinstance(kind, Several) else _as_it_is
        yield f"{name} in {stored.path}", stored.values[name], read


def _read_typed(kind: OptionType) -> Callable[[Any], Any]:
    """Return what reads an option of the command line as `usage.Options` has parsed it."""
    if isinstance(kind, Flag):
        return bool
    return tuple if isinstance(kind, Several) else kind.read


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _as_it_is(value: Any) -> Any:
    return value


def _variable(name: str) -> str:
    """Return the environment variable of an option."""
    return PREFIX + name.upper().replace("-", "_")
