"""
``--check-config``: look at what the options name, load the application as a worker would, and say
what was found.

This is done in a process of its own (``python -m txsticky.check``, the configuration on its
standard input), because the one that was asked may have a reactor already, as `twist` has, and an
ASGI application needs the asyncio one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import attrs

from .boot import begin_logging, load, load_tls
from .config import Config, endpoint_string
from .errors import ConfigError, TxstickyError
from .logs import event_text
from .ports import read_endpoint
from .printable import printable
from .serve.engine import WrongReactor


def check_config(config: Config) -> int:
    """
    Check a configuration in a process of its own, which prints what it finds.

    :returns: the exit code.
    """
    fields = json.dumps(config.to_json())
    command = [sys.executable, "-m", "txsticky.check"]
    return subprocess.run(command, input=fields, text=True, check=False).returncode


def checked(config: Config) -> int:
    """
    Check a configuration, and print what is found.

    :returns: the exit code.
    """
    try:
        check_files(config)
        # First of all that imports much, as in a worker, so that the application finds the same.
        interface = loaded(config)
        from .cluster import check

        check(config)
        check_endpoints(config)
    except WrongReactor:
        return check_config(attrs.evolve(config, interface="asgi"))  # as a worker begins anew
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    print(f"txsticky: {config.app} is fine ({interface}, {config.workers} workers).")
    return 0


def loaded(config: Config) -> str:
    """
    Load the application.

    :returns: what it is.
    :raises WrongReactor: it is ASGI, and another reactor than the asyncio one is installed.
    :raises TxstickyError: it does not load, or TLS cannot be served.
    """
    load_tls(config)
    interface: str = load(config, 1).interface
    return interface


def check_files(config: Config) -> None:
    """
    See whether the files that the cluster would make have a place.

    :raises ConfigError: one has not.
    """
    for option, path in (("--access-log", config.access_log), ("--control", config.control)):
        if path is None or path == "-":
            continue
        if os.path.isdir(path):
            raise ConfigError(option=option, value=path, hint="it is a directory")
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise ConfigError(option=option, value=path, hint="there is no such directory")


def check_endpoints(config: Config) -> None:
    """
    See whether Twisted knows the endpoints. Nothing is opened.

    :raises TxstickyError: it does not know one.
    """
    # When the application is loaded, the reactor is the one that it wants.
    from twisted.internet import reactor

    from .admin.web import status_endpoint

    endpoints = {listen: endpoint_string(listen, config.backlog) for listen in config.listen}
    if config.status is not None:
        try:
            endpoints[f"{config.status} (--status)"] = status_endpoint(config.status)
        except ConfigError as error:
            raise ConfigError(**{**error.fields, "option": "--status"}) from None
    for shown, endpoint in endpoints.items():
        if not endpoint.startswith("systemd:"):  # which may not be here to ask
            read_endpoint(reactor, endpoint, shown)


if __name__ == "__main__":
    asked = Config.from_json(json.load(sys.stdin))
    begin_logging(asked.log_level, lambda event: printable(event_text(event), lines=True))
    sys.exit(checked(asked))
