"""The time of day as HTTP writes it."""

from __future__ import annotations

import email.utils
import time

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.system import http_date


class DateTests(SynchronousTestCase):
    """The date of now."""

    def test_now(self) -> None:
        """The date is the present one, in the form of RFC 9110, section 5.6.7."""
        before = int(time.time())
        date = http_date()
        self.assertRegex(date, r"^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")
        stamp = email.utils.parsedate_to_datetime(date).timestamp()
        self.assertTrue(before <= stamp <= time.time())
