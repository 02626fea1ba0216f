"""``txsticky balancer``: print the configuration of a balancer in front of several machines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from ..core.machines import haproxy, nginx
from ..core.machines.settings import BalancerSettings, Machine
from ..core.option import Flag, declared, default_shown, switch
from ..errors import ConfigError

#: What can be configured.
BALANCERS: Final = {"haproxy": haproxy.configure, "nginx": nginx.configure}


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="txsticky balancer",
        description="Print the configuration of a balancer in front of several machines, each of"
        " which has a cluster with its own --machine NAME. In front of it stands, as a comment, how"
        " each of them is started.",
    )
    made.add_argument("balancer", choices=tuple(BALANCERS), help="the balancer")
    made.add_argument(
        "machines", nargs="+", metavar="NAME=ADDRESS:PORT", help="a machine, as a=10.0.0.1:8080"
    )
    for field, told in declared(BalancerSettings):
        if isinstance(told.kind, Flag):
            made.add_argument(switch(field), action="store_true", help=told.help)
        else:
            help = f"{told.help} [{default_shown(field)}]"
            made.add_argument(switch(field), metavar="VALUE", help=help)
    return made


def settings_of(chosen: argparse.Namespace) -> BalancerSettings:
    """
    Make the settings of parsed arguments.

    :raises ConfigError: a value cannot be.
    """
    fields = {}
    for field, told in declared(BalancerSettings):
        given = getattr(chosen, field.name)
        if given is None:
            continue
        try:
            fields[field.name] = given if isinstance(told.kind, Flag) else told.kind.read(given)
        except ValueError as error:
            raise ConfigError(option=switch(field), value=given, hint=str(error)) from None
    return BalancerSettings(machines=tuple(map(Machine.read, chosen.machines)), **fields)


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :param arguments: what follows ``txsticky balancer``.
    :returns: the exit code.
    """
    chosen = parser().parse_args(arguments)
    try:
        print(BALANCERS[chosen.balancer](settings_of(chosen)), end="")
    except ConfigError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return 1
    return 0
