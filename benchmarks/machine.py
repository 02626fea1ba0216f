"""Where something was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Where this was measured, as a sentence or two."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    kernel = platform.release().partition("-")[0]
    return (
        f"Measured on {os.cpu_count()} cores of {model}, Linux {kernel}, Python"
        f" {platform.python_version()}, with a load average of {os.getloadavg()[0]:.1f} before the"
        " run."
    )
