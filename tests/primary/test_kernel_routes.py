"""The kernel routes: where an address leads, and what is done where the kernel cannot choose."""

from __future__ import annotations

import os
import socket
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.primary.test_listeners import ListenerCase
from txsticky.config import Config
from txsticky.core.routing.address_hash import address_word, heaviest
from txsticky.primary import kernel_routes
from txsticky.primary.kernel_routes import IN_KERNEL, KernelRoutes, obstacle
from txsticky.primary.listeners import Listeners
from txsticky.primary.upgrade.packing import Descriptors

ADDRESSES = [f"127.0.3.{number}" for number in range(1, 33)]


class ObstacleTests(SynchronousTestCase):
    """What the operator's wishes say."""

    def check(self, **options: object) -> str | None:
        """The obstacle for these options, beside ``--accept workers --sticky ip``."""
        wanted = {"app": "a:b", "accept": "workers", "sticky": "ip", **options}
        config = Config.from_json(wanted)
        return obstacle(config, config.router(bytes(16)))

    def test_none(self) -> None:
        """Nothing is in the way of a chain that begins with an address."""
        for sticky in ("ip", "hash:ip", "ip,cookie:a"):
            self.assertIsNone(self.check(sticky=sticky))
        self.assertIsNone(self.check(listen=("unix:/run/a", "tcp:80")))

    def test_not_wanted(self) -> None:
        """Where the primary accepts, or another key comes first, there is nothing to tell."""
        self.assertEqual(self.check(accept="primary"), "")
        for sticky in ("sid", "sid,ip", "none", "cookie:a,ip"):
            self.assertEqual(self.check(sticky=sticky), "")

    def test_reasons(self) -> None:
        """A proxy that names addresses, and sockets of other kinds, are reasons."""
        for options, word in (
            ({"proxy_protocol": True}, "--proxy-protocol"),
            ({"forwarded_allow_ips": "10.0.0.1"}, "--forwarded-allow-ips"),
            ({"listen": ("unix:/run/a", "systemd:domain=INET:index=0")}, "--listen"),
        ):
            self.assertIn(word, self.check(**options) or "")
        config = Config(accept="workers", sticky="ip")
        self.assertIn("0.1.0", obstacle(config, config.router(bytes(16), in_words=False)) or "")


class RoutesCase(ListenerCase):
    """Listeners that have the kernel choose; the primary accepts everywhere."""

    def setUp(self) -> None:
        super().setUp()
        self.listeners = Listeners(self.reception, 100, KernelRoutes(None))

    def reached(self, listeners: Listeners, source: str) -> int:
        """The slot at whose socket a connection from an address waits."""
        target = self.first.getsockname()[:2]
        with socket.create_connection(target, source_address=(source, 0), timeout=5):
            for (slot, _), acceptor in listeners._acceptors.items():
                before = acceptor.accepted
                acceptor.accept_all()
                if acceptor.accepted > before:
                    return slot
        raise AssertionError("the connection is at no socket")

    def check(self, slots: set[int], listeners: Listeners | None = None) -> None:
        """Assert that each address is at the slot that the hash chooses among these."""
        for source in ADDRESSES:
            wanted = heaviest(address_word(source.encode()) or 0, slots)
            self.assertEqual(self.reached(listeners or self.listeners, source), wanted, source)


class FollowTests(RoutesCase):
    """Slots that come and go, in the real kernel."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_ready(self) -> None:
        """Among the slots whose workers accept the kernel chooses as the workers would."""
        self.ready(1, 2, 3)
        self.check({1, 2, 3})
        self.assertEqual(self.listeners.routes.told, IN_KERNEL)

    def test_late(self) -> None:
        """A slot whose worker does not accept yet gets nothing; once it does, its own."""
        self.ready(1, 3)
        self.check({1, 3})
        self.ready(2)
        self.check({1, 2, 3})

    def test_more_and_less(self) -> None:
        """A slot that is added joins in, a slot that is removed takes its addresses only."""
        self.ready(1, 2, 3)
        self.listeners.of(4)
        self.check({1, 2, 3})
        self.ready(4)
        self.check({1, 2, 3, 4})
        self.gone(2)
        self.check({1, 3, 4})
        self.gone(1)
        self.check({3, 4})

    def test_all_gone(self) -> None:
        """Without any worker all stays as it is: the primary accepts everywhere."""
        self.ready(1, 2, 3)
        self.gone(1, 2, 3)
        self.check({1, 2, 3})

    def test_backlog(self) -> None:
        """What waits at the socket of a slot that leaves is accepted there, by the primary."""
        self.listeners.start()
        self.ready(1, 2, 3)
        clients = self.connect(9)
        (slot,) = {heaviest(address_word(b"127.0.0.1") or 0, {1, 2, 3})}
        self.gone(slot)
        self.until(lambda: len(self.placed) == 9)
        self.assertEqual(len(clients), 9)

    def test_upgrade(self) -> None:
        """The primary that takes over counts the sockets as the one before did."""
        self.ready(1, 2, 3)
        self.listeners.of(5)
        self.listeners.of(4)
        kept = Descriptors()
        siblings = [
            (slot, number, os.dup(descriptor))
            for slot, number, descriptor in self.listeners.snapshot(kept)
        ]
        for at_first in (True, False):  # the endpoints may be opened before or after
            heir = Listeners(self.reception, 100, KernelRoutes(None))
            if at_first:
                heir.open(7, self.first.dup(), True)
            heir.restore([(slot, n, os.dup(d)) for slot, n, d in siblings])
            if not at_first:
                heir.open(7, self.first.dup(), True)
            self.addCleanup(heir.close)
            for slots in ({1, 2, 3}, {1, 4, 5}, {3, 5}):
                heir.attend(slots)
                self.check(slots, heir)
        for _, _, descriptor in siblings:
            os.close(descriptor)

    def test_upgrade_to_another_key(self) -> None:
        """A primary that takes over with another first key leaves no program."""
        self.ready(1)
        heir = Listeners(self.reception, 100, KernelRoutes(""))
        self.addCleanup(heir.close)
        heir.open(7, self.first.dup(), True)
        heir.attend({1, 2, 3})
        self.assertGreater(len({self.reached(self.listeners, source) for source in ADDRESSES}), 1)


class KernelRoutesTests(RoutesCase):
    """What is told, and what is done at refusals."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.enterContext(mock.patch.object(kernel_routes, "log"))
        self.reuseport = self.enterContext(mock.patch.object(kernel_routes, "reuseport"))
        self.reuseport.attach.return_value = None

    def test_told_once(self) -> None:
        """The log says once that the kernel chooses."""
        self.open()
        self.ready(1, 2)
        self.ready(3)
        self.assertEqual((self.log.info.call_count, self.log.warn.call_count), (1, 0))

    def test_unchanged(self) -> None:
        """Slots that are the same as before need no call."""
        self.open()
        self.ready(1, 2)
        self.ready(1, 2)
        self.assertEqual(self.reuseport.attach.call_count, 1)

    def test_refused(self) -> None:
        """If the kernel refuses, the reason is told once, and no program of before is left."""
        self.reuseport.attach.return_value = "this kernel is old"
        self.open()
        self.ready(1, 2)
        self.ready(3)
        self.assertEqual(self.listeners.routes.told, "not in the kernel: this kernel is old")
        self.assertEqual(self.log.warn.call_count, 1)
        self.assertEqual(self.reuseport.detach.call_count, 2)
        self.assertEqual((self.log.info.call_count, self.watched()), (0, set()))

    def test_too_many(self) -> None:
        """More slots than a program can have are a reason; with fewer the kernel chooses again."""
        routes, sock = KernelRoutes(None), mock.Mock()
        group = [(slot, sock) for slot in range(1, 301)]
        routes.follow({0: group}, set(range(1, 301)))
        self.assertIn("300 workers", routes.told)
        self.assertEqual(self.reuseport.attach.call_count, 0)
        routes.follow({0: group}, set(range(1, 101)))
        self.assertEqual(routes.told, IN_KERNEL)

    def test_one_worker(self) -> None:
        """With one worker there is nothing to choose, and nothing to tell."""
        self.first = self.listening()
        self.listeners.open(7, self.first.dup(), True)
        self.ready(1)
        self.assertEqual((self.reuseport.mock_calls, self.listeners.routes.told), ([], ""))

    def test_several_ports(self) -> None:
        """Each shared port gets a program; one refusal is told."""
        self.reuseport.attach.side_effect = [None, "no"]
        for number in (0, 1):
            self.listeners.open(number, self.listening().dup(), True)
        self.listeners.open(2, self.listening().dup(), False)
        self.listeners.of(2)
        self.ready(1, 2)
        self.assertEqual(self.reuseport.attach.call_count, 2)
        self.assertEqual(self.listeners.routes.told, "not in the kernel: no")

    def test_obstacle(self) -> None:
        """What the operator's wishes forbid is told once, and not tried."""
        routes = self.listeners.routes = KernelRoutes("there are proxies")
        self.open()
        self.ready(1, 2)
        self.ready(3)
        self.assertEqual(routes.told, "not in the kernel: there are proxies")
        self.assertEqual(self.log.warn.call_count, 1)
        self.assertEqual(self.reuseport.attach.call_count, 0)

    def test_not_wanted(self) -> None:
        """Where kernel routes were not asked for, nothing is told."""
        self.listeners.routes = KernelRoutes("")
        self.open()
        self.ready(1, 2)
        self.assertEqual((self.log.mock_calls, self.listeners.routes.told), ([], ""))
