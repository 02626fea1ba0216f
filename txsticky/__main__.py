"""``python -m txsticky``: the command of ``twist txsticky`` without plugin discovery."""

from __future__ import annotations

import sys

from .plugin import run


def main() -> None:
    """Run the command."""
    run(sys.argv[1:])


if __name__ == "__main__":
    main()
