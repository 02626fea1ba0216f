"""What autobahn's log would say is put into words only where it is read."""

from __future__ import annotations

import pprint
import sys
from types import ModuleType
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.unread import Unread, leave_unread

PROTOCOL = "autobahn.websocket.protocol"


class LeaveUnreadTests(SynchronousTestCase):
    """Stand-ins for autobahn's modules."""

    def setUp(self) -> None:
        self.made: list[object] = []
        self.util: Any = ModuleType("autobahn.util")
        self.module: Any = ModuleType(PROTOCOL)
        self.modules = {"autobahn.util": self.util, PROTOCOL: self.module}
        self.util.hltype = self.module.hltype = self.coloured
        self.module.pformat = pprint.pformat

    def coloured(self, value: object, bold: bool = False) -> str:
        """Make a text."""
        self.made.append(value)
        return f"<{value}>" if not bold else f"<<{value}>>"

    def test_unread(self) -> None:
        """A text that is not read is not made."""
        leave_unread(self.modules)
        self.module.hltype("name")
        self.assertEqual(self.made, [])

    def test_read(self) -> None:
        """A text that is read is what autobahn makes of the same arguments."""
        leave_unread(self.modules)
        text = self.module.hltype("name", bold=True)
        self.assertEqual(str(text), "<<name>>")
        self.assertEqual(f"{text:>10}", "  <<name>>")
        self.assertEqual(repr(text), "'<<name>>'")

    def test_columns(self) -> None:
        """Lists in columns are read late, and what is no list is made at once."""
        leave_unread(self.modules)
        self.assertIsInstance(self.module.pformat([1, 2]), Unread)
        self.assertEqual(str(self.module.pformat([1, 2])), "[1, 2]")
        self.assertEqual(self.module.pformat({1: 2}), "{1: 2}")

    def test_once(self) -> None:
        """What was replaced is not replaced again."""
        leave_unread(self.modules)
        first = self.module.hltype
        leave_unread(self.modules)
        self.assertIs(self.module.hltype, first)

    def test_others(self) -> None:
        """A function that is not autobahn's stays."""
        other = self.module.hltype = lambda value: "other"
        leave_unread(self.modules)
        self.assertIs(self.module.hltype, other)

    def test_without(self) -> None:
        """Without autobahn nothing happens."""
        leave_unread({})
        leave_unread({PROTOCOL: self.module})
        self.assertEqual(self.module.hltype("name"), "<name>")


class AutobahnTests(SynchronousTestCase):
    """The autobahn that is installed."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(txaio.config, "loop", self.clock)
        self.factory = WebSocketServerFactory(reactor=self.clock)
        serving_for(self.factory, "protocol", ServeSettings(), self.clock)

    def test_every_function(self) -> None:
        """What is served makes its texts late: the functions are where they were."""
        for module in PROTOCOL, "autobahn.twisted.websocket":
            for name in "hltype", "hlval":
                self.assertIsInstance(getattr(sys.modules[module], name)("it"), Unread)
        self.assertIsInstance(sys.modules[PROTOCOL].pformat([]), Unread)

    def test_log(self) -> None:
        """A log of debugging messages has them with their texts."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        log = WebSocketServerProtocol.log
        self.addCleanup(log.set_log_level, "info", keep=False)
        log.set_log_level("debug", keep=False)
        self.factory.protocol = WebSocketServerProtocol
        self.factory.buildProtocol(None).makeConnection(StringTransport())
        said = "\n".join(map(formatEvent, events))
        self.assertIn("connectionMade", said)
        self.assertIn("WebSocketServerFactory", said)
        self.assertNotIn("Unread", said)
