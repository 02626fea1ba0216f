"""The time of day as HTTP writes it."""

from __future__ import annotations

import email.utils


def http_date() -> str:
    """The present time for a Date header (RFC 9110, section 5.6.7)."""
    return email.utils.formatdate(usegmt=True)
