"""
``--check-config``: load the application as a worker would, and say what was found.

This is done in a process of its own (``python -m txsticky.check``, the configuration on its
standard input), because the one that was asked may have a reactor already, as `twist` has, and an
ASGI application needs the asyncio one.
"""

from __future__ import annotations

import json
import subprocess
import sys

from .boot import load, load_tls
from .config import Config
from .errors import TxstickyError
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
        load_tls(config)
        interface = load(config, 1).interface
    except WrongReactor:
        interface = "asgi"  # a worker loads it once more, and it does load
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    print(f"txsticky: {config.app} is fine ({interface}, {config.workers} workers).")
    return 0


if __name__ == "__main__":
    sys.exit(checked(Config.from_json(json.load(sys.stdin))))
