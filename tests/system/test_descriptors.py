"""The limit of open files, and what arrives as a number."""

from __future__ import annotations

import os
import resource
import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ShellCase, no_descriptors_left
from txsticky.system import descriptors
from txsticky.system.descriptors import Headroom, open_socket, own_address, socket_maker


class LimitTests(SynchronousTestCase):
    """The limit of open files."""

    def raised(self, soft: int, hard: int, refuse: bool = False) -> list[tuple[int, int]]:
        """What is asked for when these are the limits."""
        asked: list[tuple[int, int]] = []

        def set_limit(which: int, limits: tuple[int, int]) -> None:
            if refuse:
                raise ValueError("not permitted")
            asked.append(limits)

        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(resource, "setrlimit", set_limit)
        descriptors.raise_file_limit()
        return asked

    def test_to_the_hard_limit(self) -> None:
        """The soft limit becomes the hard one."""
        self.assertEqual(self.raised(1024, 4096), [(4096, 4096)])

    def test_unlimited(self) -> None:
        """Where there is no hard limit the soft limit becomes a million."""
        infinite = resource.RLIM_INFINITY
        self.assertEqual(self.raised(1024, infinite), [(1 << 20, infinite)])

    def test_enough(self) -> None:
        """If the soft limit is the hard one already, nothing is asked for."""
        self.assertEqual(self.raised(4096, 4096), [])

    def test_refused(self) -> None:
        """If the system refuses, things stay as they are."""
        self.assertEqual(self.raised(1024, 4096, refuse=True), [])


class MakerTests(ShellCase):
    """What makes sockets of one family."""

    def test_made(self) -> None:
        """A socket that is made has its family, and the protocol that asyncio looks for."""
        for family, proto in ((socket.AF_INET, socket.IPPROTO_TCP), (socket.AF_UNIX, 0)):
            descriptor = socket.socket(family, socket.SOCK_STREAM).detach()
            made = self.owned(socket_maker(family, socket.socket)(descriptor))
            told = made.family, made.type, made.proto, made.fileno()
            self.assertEqual(told, (family, socket.SOCK_STREAM, proto, descriptor))


class OwnershipTests(ShellCase):
    """What arrives as a number."""

    def test_own(self) -> None:
        """A descriptor that was inherited is not inherited further; no descriptor stays none."""
        sock, _ = self.pair()
        sock.set_inheritable(True)
        self.assertEqual(descriptors.own(sock.fileno()), sock.fileno())
        self.assertFalse(sock.get_inheritable())
        self.assertEqual(descriptors.own(-1), -1)

    def test_own_lowest(self) -> None:
        """Descriptor 0 is one as well."""
        asked: list[tuple[int, bool]] = []
        self.patch(os, "set_inheritable", lambda *arguments: asked.append(arguments))
        self.assertEqual(descriptors.own(0), 0)
        self.assertEqual(asked, [(0, False)])

    def test_severed(self) -> None:
        """The kernel knows at once of a UNIX socket whose other end has gone."""
        here, there = self.pair()
        self.assertFalse(descriptors.severed(here.fileno()))
        there.close()
        self.assertTrue(descriptors.severed(here.fileno()))

    def test_quiet(self) -> None:
        """A connection is quiet since data has gone either way, by the clock of the kernel."""
        server, client = self.connected()
        for sender in (client, server):
            while descriptors.quiet(server) < 0.05:
                pass
            while descriptors.quiet(server) >= 0.05:
                sender.send(b"x")

    def test_quiet_unix_socket(self) -> None:
        """Of a UNIX socket the kernel does not tell."""
        here, _ = self.pair()
        self.assertEqual(descriptors.quiet(here), 0.0)

    def test_open_socket(self) -> None:
        """A descriptor that arrived becomes a socket that says it is TCP, without a copy of it."""
        server, _ = self.connected()
        number = server.detach()
        sock = self.owned(open_socket(number, socket.AF_INET))
        self.assertEqual(
            (sock.fileno(), sock.family, sock.proto),
            (number, socket.AF_INET, socket.IPPROTO_TCP),
        )

    def test_open_unix_socket(self) -> None:
        """A descriptor over a UNIX socket becomes a socket that names no protocol."""
        server, _ = self.pair()
        sock = self.owned(open_socket(server.detach(), socket.AF_UNIX))
        self.assertEqual((sock.family, sock.proto), (socket.AF_UNIX, 0))


class OwnAddressTests(ShellCase):
    """The address that connections are made to, as far as a listening socket tells."""

    def bound(self, host: str, family: int = socket.AF_INET) -> socket.socket:
        """A socket that is bound."""
        sock: socket.socket = self.owned(socket.socket(family))
        sock.bind((host, 0))
        return sock

    def test_one(self) -> None:
        """A socket that is bound to an IPv4 address tells it."""
        sock = self.bound("127.0.0.1")
        self.assertEqual(own_address(sock), sock.getsockname())

    def test_several(self) -> None:
        """A socket that is bound to all addresses tells none, nor one of IPv6 or UNIX."""
        unix = self.owned(socket.socket(socket.AF_UNIX))
        unix.bind(self.mktemp())
        for sock in (self.bound("0.0.0.0"), self.bound("::1", socket.AF_INET6), unix):
            self.assertIsNone(own_address(sock))

    def test_transparent(self) -> None:
        """A transparent proxy takes connections that were made to other addresses."""
        sock = self.bound("127.0.0.1")
        self.patch(descriptors, "_TRANSPARENT", socket.IP_TTL)  # to set the real one takes rights
        self.assertIsNone(own_address(sock))


class HeadroomTests(SynchronousTestCase):
    """Whether descriptors are scarce."""

    def scarce_after(self, *numbers: int, ceiling: int = 100) -> bool:
        """Whether descriptors are scarce, once some with these numbers have come."""
        headroom = Headroom(16, ceiling)
        for number in numbers:
            headroom.taken(number)
        return headroom.scarce

    def test_at_first(self) -> None:
        """Nothing is scarce before any descriptor came."""
        self.assertFalse(self.scarce_after())

    def test_at_the_ceiling(self) -> None:
        """The last number below the ceiling tells that descriptors are scarce, no other does."""
        self.assertFalse(self.scarce_after(98))
        self.assertTrue(self.scarce_after(99))

    def test_a_gap(self) -> None:
        """A number in the margin below the ceiling may be a gap: descriptors stay scarce."""
        self.assertTrue(self.scarce_after(99, 83))

    def test_below_the_margin(self) -> None:
        """A number below the margin ends the scarcity, and the ceiling alone begins it anew."""
        self.assertFalse(self.scarce_after(99, 82))
        self.assertFalse(self.scarce_after(99, 82, 98))

    def test_room(self) -> None:
        """There is room if the lowest free number is below the ceiling."""
        self.assertTrue(Headroom(16, 1 << 30).has_room())
        self.assertFalse(Headroom(16, 0).has_room())

    def test_room_for_one(self) -> None:
        """The lowest free number itself has to be below the ceiling."""
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        self.assertFalse(descriptors.has_room(lowest))
        self.assertTrue(descriptors.has_room(lowest + 1))

    def test_no_descriptor_at_all(self) -> None:
        """Where not even one can be opened there is no room."""
        headroom = Headroom(16, 1 << 30)
        with no_descriptors_left():
            self.assertFalse(headroom.has_room())

    def test_limit_of_the_process(self) -> None:
        """The ceiling is below this process's limit of open files."""
        self.patch(resource, "getrlimit", lambda which: (1024, 4096))
        self.assertEqual(Headroom(16).ceiling, 1024 - 64)
        self.patch(resource, "getrlimit", lambda which: (8192, 8192))
        self.assertEqual(Headroom(16).ceiling, 8192 - 64)
        self.patch(resource, "getrlimit", lambda which: (512, 512))
        self.assertEqual(Headroom(16).ceiling, 512 - 32)
        self.patch(resource, "getrlimit", lambda which: (64, 64))
        self.assertEqual(Headroom(16).ceiling, 54)
        infinite = resource.RLIM_INFINITY
        self.patch(resource, "getrlimit", lambda which: (infinite, infinite))
        self.assertEqual(Headroom(16).ceiling, sys.maxsize)
