"""File descriptors that pass from one program to the next."""

from __future__ import annotations

import os


def own(descriptor: int) -> int:
    """Keep an inherited descriptor from being inherited further; -1 is none."""
    if descriptor >= 0:
        os.set_inheritable(descriptor, False)
    return descriptor
