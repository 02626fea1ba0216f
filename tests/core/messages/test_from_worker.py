"""What a worker says to the primary, to the letter."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.from_worker import ListeningLoad, Load, Used
from txsticky.errors import WireError

LISTENING = ListeningLoad(accepted=1, waiting=2, routes=[3, 4], refusals=[[400, 5]])


def fields(load: Load) -> dict[str, Any]:
    """What is written of a load."""
    found: dict[str, Any] = json.loads(load.body())
    return found


class LoadTests(SynchronousTestCase):
    """The heartbeat, whose form version 0.1.0 reads as well."""

    def test_as_before(self) -> None:
        """A worker that has all it needs, and no socket, says what it always said."""
        load = Load(live=1, taken=2, lag=0.5, requests=3, adopted=4, given=5)
        told = {"live": 1, "taken": 2, "lag": 0.5, "requests": 3, "adopted": 4, "given": 5}
        self.assertEqual(fields(load), told)

    def test_short(self) -> None:
        """A want of descriptors is told, and once more beside the sockets."""
        self.assertIs(fields(Load(short=True))["short"], True)
        self.assertNotIn("entrance", fields(Load(short=True)))
        for short in (False, True):
            told = fields(Load(short=short, listening=LISTENING))
            wanted = {"accepted": 1, "waiting": 2, "routes": [3, 4], "refusals": [[400, 5]]}
            self.assertEqual(told["entrance"], {**wanted, "short": short})
            self.assertNotIn("listening", told)
            self.assertEqual(told.get("short", False), short)

    def test_read(self) -> None:
        """A load that was written is read again."""
        for load in (Load(), Load(short=True, live=3), Load(listening=LISTENING, lag=1.5)):
            self.assertEqual(Load.of(load.body()), load)

    def test_read_otherwise(self) -> None:
        """Figures of the sockets that are no mapping are left out."""
        self.assertIsNone(Load.of(b'{"entrance": 7}').listening)


class UsedTests(SynchronousTestCase):
    """Keys that were asked for."""

    def test_form(self) -> None:
        """Each key stands behind its length in two bytes."""
        used = Used([b"a", b"b" * 300])
        self.assertEqual(used.body(), b"\0\1a\1\x2c" + b"b" * 300)
        self.assertEqual(Used.of(used.body()), used)
        self.assertEqual(Used.of(b""), Used([]))

    def test_cut_off(self) -> None:
        """A key whose end is missing is an error that shows where it begins."""
        for whole, rest in ((b"", b"\0\2a"), (b"\0\1a", b"\0\5bcde")):
            error = self.assertRaises(WireError, Used.of, whole + rest)
            self.assertTrue(str(error).endswith(f"{rest!r}."), error)
