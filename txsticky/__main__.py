"""``python -m txsticky``: the command without ``twist``; ``ctl`` and ``publish`` for a cluster."""

from __future__ import annotations

import sys

from .system import startup


def main() -> None:
    """Run the command."""
    startup.leave_working_folder()
    if sys.argv[1:2] == ["ctl"]:
        from .admin import ctl  # it imports nothing of the server, and starts at once

        sys.exit(ctl.main(sys.argv[2:]))
    if sys.argv[1:2] == ["publish"]:
        from .cli import publish

        sys.exit(publish.main(sys.argv[2:]))
    startup.hold_signals()
    from .cli.command import run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
