"""Make the pictures of README and documentation anew: ``python -m tests.pictures``.

Two browser tests take them: of the demo, and of the status page.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.integration.chromium import PICTURES

TESTS = (
    "tests.integration.test_demo_chromium.DemoTests.test_picture_for_the_documentation",
    "tests.integration.test_status.PageTests.test_picture_for_the_documentation",
)


def main() -> int:
    """Run the two tests, and have them write their pictures."""
    PICTURES.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "twisted.trial", *TESTS]
    return subprocess.run(command, env={**os.environ, "PICTURES": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
