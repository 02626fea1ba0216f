"""What an upgrade's state is written with."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ShellCase, received
from txsticky.core.messages.origin import Origin
from txsticky.intake.arrival import Arrival
from txsticky.primary.upgrade import packing


class ArrivalTests(ShellCase):
    """Connections that travel."""

    def test_round_trip(self) -> None:
        """All that is known of a connection comes back, less its head, which is looked for anew."""
        server, client = self.pair()
        arrival = Arrival(
            server,
            Origin(("192.0.2.7", 50000), ("192.0.2.1", 80), secure=True),
            data=b"GET / HT\xff",
            hops=3,
            idle=True,
            proxied=True,
        )
        kept = packing.Descriptors()
        fields = json.loads(json.dumps(packing.pack_arrival(arrival, kept)))
        self.assertEqual(kept.kept, [server.fileno()])
        os.set_inheritable(server.fileno(), True)
        server.detach()
        again = packing.unpack_arrival(fields)
        self.owned(again.sock)
        self.assertFalse(os.get_inheritable(again.sock.fileno()))
        again.sock.send(b"it lives")
        self.assertEqual(received(client), b"it lives")
        for name in ("origin", "data", "hops", "idle", "proxied"):
            self.assertEqual(getattr(again, name), getattr(arrival, name), name)
        self.assertIsNone(again.head)


class PackTests(SynchronousTestCase):
    """Bytes in JSON."""

    def test_round_trip(self) -> None:
        """Any bytes come back."""
        data = bytes(range(256))
        self.assertEqual(packing.unpack(json.loads(json.dumps(packing.pack(data)))), data)
