"""
``--check-config``: check what the options name, load the application as a worker does, and report.

The check runs in a process of its own (``python -m txsticky.cli.check``, the configuration on its
standard input), because the process of the command may have a reactor already, as `twist` has, and
an ASGI application needs the asyncio reactor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import attrs

from ..config import Config
from ..core.listen import endpoint_string
from ..errors import ConfigError, TxstickyError
from ..printable import printable
from ..serve.asgi.engine import WrongReactor
from ..system.endpoints import read_endpoint
from ..system.logs.lines import event_text
from ..system.privileges import executed_as, identity_of
from ..system.startup import mend_streams
from ..system.trust import Identity
from ..tls.certificates import read_files
from ..worker.process import begin_logging, load, load_tls


def check_config(config: Config) -> int:
    """
    Check a configuration in a process of its own, which prints the result.

    :param config: the configuration.
    :returns: the exit code.
    """
    from ..primary.preflight import check

    try:
        check(config)
        check_files(config)
        identity = identity_of(config.user, config.group)
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    files = read_files((*config.tls_cert, *config.tls_key)) if identity is not None else {}
    return _check_in_process(config, files, identity)


def _check_in_process(config: Config, files: Mapping[str, str], identity: Identity | None) -> int:
    fields = json.dumps({"config": config.to_json(), "files": files})
    command = [sys.executable, "-P", "-m", "txsticky.cli.check"]
    return subprocess.run(
        command, input=fields, text=True, check=False, **executed_as(identity)
    ).returncode


def checked(config: Config, files: Mapping[str, str]) -> int:
    """
    Check a configuration in this process, and print the result.

    :param config: the configuration.
    :param files: the texts of files that this process may not read, by their names
        (`tls.certificates.read_files`).
    :returns: the exit code.
    """
    try:
        interface = loaded(config, files)
        check_endpoints(config)
    except WrongReactor:
        # A worker executes itself anew then.
        return _check_in_process(attrs.evolve(config, interface="asgi"), files, None)
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    print(f"txsticky: {config.app} is fine ({interface}, {config.workers} workers).")
    return 0


def loaded(config: Config, files: Mapping[str, str]) -> str:
    """
    Load the application.

    :param config: the configuration.
    :param files: as for `checked`.
    :returns: the application's interface.
    :raises WrongReactor: the application is ASGI, and another reactor than the asyncio one is
        installed.
    :raises TxstickyError: the application does not load, or TLS cannot be served.
    """
    load_tls(config, files)
    interface: str = load(config, 1).interface
    return interface


def check_files(config: Config) -> None:
    """
    Check that the files that the cluster would make have a directory.

    :param config: the configuration.
    :raises ConfigError: a file has none.
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
    Check that Twisted knows the endpoints. Nothing is opened.

    :param config: the configuration.
    :raises TxstickyError: Twisted does not know an endpoint.
    """
    # Only now: the application that was loaded has decided which reactor is installed.
    from twisted.internet import reactor

    from ..admin.web import status_endpoint

    endpoints = {listen: endpoint_string(listen, config.backlog) for listen in config.listen}
    if config.status is not None:
        try:
            endpoints[f"{config.status} (--status)"] = status_endpoint(config.status)
        except ConfigError as error:
            raise ConfigError(**{**error.fields, "option": "--status"}) from None
    for shown, endpoint in endpoints.items():
        if not endpoint.startswith("systemd:"):  # the service manager may not be here to ask
            read_endpoint(reactor, endpoint, shown)


if __name__ == "__main__":
    mend_streams()
    told = json.load(sys.stdin)
    asked = Config.from_json(told["config"])
    begin_logging(asked.log_level, lambda event: printable(event_text(event), lines=True))
    sys.exit(checked(asked, told["files"]))
