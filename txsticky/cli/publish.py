"""``txsticky publish``: send a message to the workers of a running cluster that listen to it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..admin.verbs import PUBLISH_OPTIONS
from ..errors import TxstickyError
from ..ipc.outside import VARIABLE, publish
from ..printable import printable


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="txsticky publish",
        description="Send a message to every worker that listens to a topic. If none does, this is"
        " an error.",
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--control", metavar="PATH", help=f"{PUBLISH_OPTIONS['--control']} [${VARIABLE}]"
    )
    where.add_argument("--bus", metavar="URL", help=f"{PUBLISH_OPTIONS['--bus']} [$TXSTICKY_BUS]")
    made.add_argument("topic", metavar="TOPIC", help="the topic")
    made.add_argument("message", metavar="MESSAGE", help="the message; - is the standard input")
    return made


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :param arguments: what follows ``txsticky publish``.
    :returns: the exit code.
    """
    chosen = parser().parse_args(arguments)
    text = chosen.message
    message = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        publish(chosen.topic, message, control=chosen.control, bus=chosen.bus)
    except (TxstickyError, ValueError) as error:
        print(printable(f"txsticky: {error}"), file=sys.stderr)
        return 1
    return 0
