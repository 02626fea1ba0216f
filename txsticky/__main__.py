"""``python -m txsticky``: the command without ``twist``, and what stands beside it."""

from __future__ import annotations

import importlib
import sys

from .system import startup


def main() -> None:
    """Run the command."""
    startup.leave_working_folder()
    from .admin.verbs import SUBCOMMANDS  # they import nothing of the server, and start at once

    for command in SUBCOMMANDS:
        if sys.argv[1:2] == [command.name]:
            sys.exit(importlib.import_module(command.module).main(sys.argv[2:]))
    startup.hold_signals()
    from .cli.command import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
