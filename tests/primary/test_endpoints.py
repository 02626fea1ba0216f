"""The endpoints: what is opened, what was open already, and what cannot be listened on."""

from __future__ import annotations

from unittest import mock

from twisted.internet.address import IPv6Address, UNIXAddress

from tests.fakes import FakeSystem
from tests.shells import ReactorCase
from txsticky.config import Config
from txsticky.errors import ListenError
from txsticky.intake.reception import Reception
from txsticky.primary import endpoints
from txsticky.primary.endpoints import Endpoints, place_of
from txsticky.primary.kernel_routes import KernelRoutes
from txsticky.primary.listeners import Listeners
from txsticky.primary.upgrade.start import Takeover


class EndpointsTests(ReactorCase):
    """Two endpoints, the first at a port that is in use."""

    def setUp(self) -> None:
        super().setUp()
        self.port = self.listening().getsockname()[1]
        self.listen = (f"127.0.0.1:{self.port}", "tcp:0:interface=127.0.0.1")
        config = Config(listen=self.listen)
        reception = Reception(FakeSystem(reactor=self.reactor), config, mock.Mock())
        self.listeners = Listeners(reception, 100, KernelRoutes(""))
        self.endpoints = Endpoints(config, self.reactor, self.listeners)
        self.addCleanup(self.end)

    def end(self) -> None:
        """Close the endpoints, which takes the reactor a turn."""
        self.endpoints.close()
        self.reactor.iterate(0)

    def test_start(self) -> None:
        """A cluster does not start without one of its endpoints."""
        with self.assertRaises(ListenError):
            self.endpoints.open({})

    def test_taking_over(self) -> None:
        """A cluster that runs goes on without an endpoint, says why, and leaves it to the next."""
        with mock.patch.object(endpoints, "log") as log:
            self.endpoints.open({}, taking_over=True)
        self.assertIn("in use", str(log.error.call_args.kwargs["error"]))
        (address,) = self.endpoints.addresses()
        self.assertNotEqual(address.port, self.port)
        self.assertEqual(len(self.listeners.acceptors), 1)
        state = mock.Mock(listeners=self.endpoints.snapshot())
        ((number, descriptor),) = Takeover(state, self.listen).sockets().items()
        self.assertEqual((number, descriptor >= 0), (1, True))

    def test_inherited(self) -> None:
        """What is open already is not opened anew."""
        sock = self.listening()
        self.endpoints.open({0: sock.dup().detach()})
        self.assertEqual(self.endpoints.addresses()[0].port, sock.getsockname()[1])
        self.assertEqual([listen for listen, _ in self.endpoints.snapshot()], list(self.listen))
        self.assertEqual(
            self.endpoints.held(),
            [(self.listen[0], sock.getsockname()[1]), (self.listen[1], mock.ANY)],
        )

    def test_places(self) -> None:
        """A port is told by its number, a UNIX socket by its path."""
        self.assertEqual(place_of(IPv6Address("TCP", "::1", 8080)), 8080)
        self.assertEqual(place_of(UNIXAddress(b"/run/app")), "/run/app")
        self.assertEqual(place_of(UNIXAddress(None)), "")
