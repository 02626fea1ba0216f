"""
``txsticky ctl``: the operator's side of the control socket.

It starts fast, for it needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import Unanswered
from ..ipc.outside import VARIABLE, ask
from ..printable import printable, tolerate
from . import completion, display
from .verbs import OPTIONS, VERBS

#: What a wrong command line exits with (sysexits.h, EX_USAGE), and what a refusal.
USAGE, REFUSED = 64, 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        sentence = f"{message[0].upper()}{message[1:].rstrip('.')}."
        self.exit(USAGE, f"txsticky: {printable(sentence)}\n")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    made = _Parser(
        prog="txsticky ctl",
        description="Look at a running cluster, and steer it.",
        epilog="The cluster was started with --control PATH.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--control",
        metavar="PATH",
        default=os.environ.get(VARIABLE),
        help=f"{OPTIONS['--control']} [${VARIABLE}]",
    )
    made.add_argument("--json", action="store_true", help=OPTIONS["--json"])
    made.add_argument(
        "--shell-completion",
        choices=tuple(completion.SHELLS),
        help=OPTIONS["--shell-completion"],
    )
    lines = "\n".join(
        f"  {verb.name + (' N' if verb.worker else ''):<11}{verb.help}" for verb in VERBS
    )
    made.add_argument("verb", nargs="?", metavar="VERB", help="what to do, see below")
    made.add_argument("worker", nargs="?", metavar="N", help="a worker's number")
    made.epilog = f"verbs:\n{lines}\n\n{made.epilog}"
    return made


def request_of(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> dict[str, Any]:
    """Make the request of parsed arguments; what is wrong with them ends the program."""
    verb = next((verb for verb in VERBS if verb.name == chosen.verb), None)
    if verb is None:
        known = ", ".join(verb.name for verb in VERBS)
        said = f"there is no verb {chosen.verb!r}" if chosen.verb else "say what to do"
        parser.error(f"{said}; there are: {known}")
    if verb.worker:
        if chosen.worker is None or not chosen.worker.isdecimal():
            parser.error(f"`{verb.name}` needs the number of a worker, such as `{verb.name} 2`")
        return {"verb": verb.name, "worker": int(chosen.worker)}
    if chosen.worker is not None:
        parser.error(f"`{verb.name}` takes no number, so not {chosen.worker!r}")
    return {"verb": verb.name}


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    :param arguments: what follows ``txsticky ctl``.
    :returns: the exit code.
    """
    options = parser()
    chosen = options.parse_args(arguments)
    if chosen.shell_completion:
        print(completion.SHELLS[chosen.shell_completion](), end="")
        return 0
    request = request_of(options, chosen)
    if not chosen.control:
        options.error(f"which cluster? Say --control PATH, or set {VARIABLE}")
    try:
        answer = ask(chosen.control, request)
    except Unanswered as why:
        print(printable(f"txsticky: {why}"), file=sys.stderr)
        return REFUSED
    if not answer["ok"]:
        print(printable(f"txsticky: {answer['error']}"), file=sys.stderr)
        return REFUSED
    tolerate(sys.stdout)
    try:
        if chosen.json:
            print(json.dumps({name: value for name, value in answer.items() if name != "ok"}))
        else:
            shown = display.printable_answer(answer)
            print(display.shown(request["verb"], shown, display.Style.of(sys.stdout)), end="")
        sys.stdout.flush()
    except BrokenPipeError:  # as in `ctl workers | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
