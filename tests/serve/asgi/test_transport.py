"""The transport of an asyncio protocol, behind the end of its connection."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.asgi.transport import GatedTransport


class Host:
    """A host of which only the addresses are asked."""

    extra = {"peername": ("192.0.2.1", 4711)}


class OverTests(SynchronousTestCase):
    """The connection is over."""

    def test_answers(self) -> None:
        """A transport that is over still answers: addresses stay, nothing is buffered."""
        transport = GatedTransport(cast(Any, Host()))
        transport.over()
        self.assertEqual(transport.get_extra_info("peername"), ("192.0.2.1", 4711))
        self.assertTrue(transport.is_closing())
        self.assertEqual(transport.get_write_buffer_size(), 0)
        self.assertEqual(transport.get_write_buffer_limits(), (0, 0))

    def test_takes_all(self) -> None:
        """What a protocol does late does nothing."""
        transport = GatedTransport(cast(Any, Host()))
        transport.over()
        transport.write(b"late")
        transport.set_write_buffer_limits(high=1)
        transport.pause_reading()
        transport.resume_reading()
        transport.close()
        transport.abort()
