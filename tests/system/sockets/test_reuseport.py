"""Programs for shared ports, in the real kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
from collections import Counter
from unittest import mock

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from txsticky.core.routing.address_hash import address_word, heaviest
from txsticky.core.routing.bpf import RETURN, program
from txsticky.system.sockets import reuseport

IPV4 = [f"127.{number % 3}.{number}.{number + 7}" for number in range(64)]
#: Addresses for documentation (RFC 3849), which a test of root's puts on the loopback device.
IPV6 = [f"2001:db8:{number:x}::{number * 977:x}" for number in range(1, 33)]


class Group:
    """
    Sockets that share a port.

    :param host: what they listen on.
    :param count: how many there are.
    """

    def __init__(self, case: SynchronousTestCase, host: str, count: int) -> None:
        self.case = case
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sockets: list[socket.socket] = []
        self.host, self.port = host, 0
        for _ in range(count):
            self.add()

    def add(self) -> socket.socket:
        """Add a socket."""
        sock = socket.socket(self.family)
        self.case.addCleanup(sock.close)
        if self.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((self.host, self.port))
        sock.listen(256)
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        self.sockets.append(sock)
        return sock

    def reached(self, source: str, target: str) -> int:
        """The number of the socket that a connection from one address to another reaches."""
        with socket.create_connection((target, self.port), source_address=(source, 0), timeout=5):
            for number, sock in enumerate(self.sockets):
                with contextlib.suppress(BlockingIOError):
                    sock.accept()[0].close()
                    return number
        raise AssertionError("the connection is at no socket")


class KernelCase(SynchronousTestCase):
    """A kernel that takes programs."""

    def setUp(self) -> None:
        group = Group(self, "127.0.0.1", 2)
        why = reuseport.attach(group.sockets[0], program({1: 0, 2: 1}))
        if why is not None:
            raise SkipTest(why)

    def attach(self, group: Group, slots: dict[int, int]) -> None:
        """Attach the program for these slots."""
        self.assertIsNone(reuseport.attach(group.sockets[0], program(slots)))

    def check(self, group: Group, slots: dict[int, int], sources: list[str], target: str) -> None:
        """Assert that kernel and hash agree on every address, three times over."""
        for source in sources:
            word = address_word(source.encode())
            assert word is not None
            wanted = slots[heaviest(word, slots)]
            for _ in range(3):
                self.assertEqual(group.reached(source, target), wanted, source)


class ChoiceTests(KernelCase):
    """Which socket a connection reaches."""

    def test_ipv4(self) -> None:
        """From 64 IPv4 addresses each connection reaches the socket that the hash names."""
        for count in (2, 3, 5):
            group, slots = Group(self, "127.0.0.1", count), {n + 1: n for n in range(count)}
            self.attach(group, slots)
            self.check(group, slots, IPV4, "127.0.0.1")

    def test_numbers(self) -> None:
        """The order of the group need not be that of the slots, and slots may be missing."""
        group, slots = Group(self, "127.0.0.1", 4), {7: 3, 2: 0, 5: 2}
        self.attach(group, slots)
        self.check(group, slots, IPV4, "127.0.0.1")

    def test_both_families(self) -> None:
        """An IPv6 socket that serves IPv4 as well tells IPv4 clients apart as an IPv4 one does."""
        group, slots = Group(self, "::", 3), {1: 0, 2: 1, 3: 2}
        self.attach(group, slots)
        self.check(group, slots, IPV4, "127.0.0.1")
        self.check(group, slots, ["::1"], "::1")

    def test_ipv6(self) -> None:
        """Connections from IPv6 addresses, as from IPv4 ones, reach the hash's socket."""
        for address in IPV6:
            command = ["ip", "-6", "addr", "add", f"{address}/128", "dev", "lo", "nodad"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=10)
            except (OSError, subprocess.CalledProcessError):
                raise SkipTest("this user cannot add addresses") from None
            command[3] = "del"
            self.addCleanup(subprocess.run, command[:-1], capture_output=True, timeout=10)
        for host in ("::", "::1"):
            group, slots = Group(self, host, 4), {1: 0, 2: 1, 3: 2, 4: 3}
            self.attach(group, slots)
            self.check(group, slots, [*IPV6, "::1"], "::1")
            found = Counter(group.reached(source, "::1") for source in IPV6)
            self.assertEqual(set(found), {0, 1, 2, 3})

    def test_added(self) -> None:
        """A socket that is added gets nothing until a program names it, and the others stay."""
        group, slots = Group(self, "127.0.0.1", 2), {1: 0, 2: 1}
        self.attach(group, slots)
        group.add()
        self.check(group, slots, IPV4, "127.0.0.1")
        slots[3] = 2
        self.attach(group, slots)
        self.check(group, slots, IPV4, "127.0.0.1")

    def test_closed(self) -> None:
        """The last socket takes the number of one that is closed: hence none is closed."""
        group = Group(self, "127.0.0.1", 3)
        self.attach(group, {1: 0})
        group.sockets.pop(0).close()
        self.assertEqual({group.reached(source, "127.0.0.1") for source in IPV4}, {1})

    def test_shared_later(self) -> None:
        """A socket that listened before it shared its address is the first of the group."""
        first = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(first.close)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.setblocking(False)
        group = Group(self, "127.0.0.1", 0)
        group.sockets, group.port = [first], first.getsockname()[1]
        group.add()
        group.add()
        slots = {1: 0, 2: 1, 3: 2}
        self.attach(group, slots)
        self.check(group, slots, IPV4, "127.0.0.1")

    def test_listening_again(self) -> None:
        """A socket keeps its number when it is told to listen once more, as after an upgrade."""
        group, slots = Group(self, "127.0.0.1", 3), {1: 0, 2: 1, 3: 2}
        self.attach(group, slots)
        for number in (2, 0, 1):
            group.sockets[number].listen(100)
        self.check(group, slots, IPV4, "127.0.0.1")

    def test_many(self) -> None:
        """A program for 200 workers is taken, unless the system allows no program of that size."""
        group = Group(self, "127.0.0.1", 2)
        slots = {number: number % 2 for number in range(1, 201)}
        why = reuseport.attach(group.sockets[0], program(slots))
        if why is not None:
            self.assertIn("optmem_max", why)
        else:
            self.check(group, slots, IPV4[:8], "127.0.0.1")

    def test_no_such_number(self) -> None:
        """If a program names a socket that is not there, the kernel chooses by itself."""
        group = Group(self, "127.0.0.1", 3)
        self.attach(group, {1: 9})
        found = Counter(group.reached(source, "127.0.0.1") for source in IPV4 for _ in range(3))
        self.assertEqual(set(found), {0, 1, 2})

    def test_detached(self) -> None:
        """Without its program a group is as before; to take none away is no error."""
        group = Group(self, "127.0.0.1", 3)
        self.attach(group, {1: 0})
        for _ in range(2):
            reuseport.detach(group.sockets[0])
        found = Counter(group.reached(source, "127.0.0.1") for source in IPV4 for _ in range(3))
        self.assertEqual(set(found), {0, 1, 2})


class RefusalTests(SynchronousTestCase):
    """Why a program is not attached."""

    def test_alone(self) -> None:
        """A socket that shares its address with none has no group: the kernel refuses."""
        sock = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(sock.close)
        self.assertIn("does not accept", reuseport.attach(sock, [(RETURN, 0, 0, 0)]) or "")

    def test_no_program(self) -> None:
        """Instructions that are none are refused by the kernel, not by a crash."""
        group = Group(self, "127.0.0.1", 2)
        self.assertIsNotNone(reuseport.attach(group.sockets[0], [(0xFFFF, 0, 0, 0)]))

    def test_errors(self) -> None:
        """Each error of the system is a reason in words."""
        for number, word in (
            (errno.ENOPROTOOPT, "Linux 4.6"),
            (errno.ENOMEM, "optmem_max"),
            (errno.EPERM, "may not"),
            (errno.EBUSY, os.strerror(errno.EBUSY)),
        ):
            sock = mock.Mock()
            sock.setsockopt.side_effect = OSError(number, "no")
            self.assertIn(word, reuseport.attach(sock, [(RETURN, 0, 0, 0)]) or "")
            reuseport.detach(sock)

    def test_another_system(self) -> None:
        """Where the option's number may mean something else it is not tried."""
        sock = mock.Mock()
        self.patch(reuseport.sys, "platform", "freebsd14")
        self.assertIn("only Linux", reuseport.attach(sock, [(RETURN, 0, 0, 0)]) or "")
        reuseport.detach(sock)
        self.assertEqual(sock.method_calls, [])
