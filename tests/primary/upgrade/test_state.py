"""One primary takes over from another: nothing that one had in hand is lost, nothing is doubled."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any
from unittest import mock

from tests.primary.cases import PrimaryCase, get
from tests.raw_frames import (
    Kind,
    decode_json,
    encode,
    encode_json,
    pack_message,
    raw,
    unpack_message,
)
from tests.shells import open_descriptors, received
from txsticky.core.how import How
from txsticky.core.lifecycle.snapshot import restore
from txsticky.core.lifecycle.states import Spawn
from txsticky.core.lifecycle.timing import SILENT
from txsticky.core.routing.pool import MemberState
from txsticky.primary.beginning import OTHERS
from txsticky.primary.primary import Primary
from txsticky.primary.upgrade.packing import Descriptors, unpack
from txsticky.primary.upgrade.start import Takeover, places
from txsticky.primary.upgrade.state import UpgradeState, state_of


class HandoverCase(PrimaryCase):
    """
    A primary with played workers, and the one that takes its place.

    :ivar listen: every `--listen` of the one that takes over.
    """

    listen: Sequence[str] = ("tcp:8080",)

    def setUp(self) -> None:
        super().setUp()
        self.primary.supervisor.fleet.start(0.0)
        self.port = self.listening()

    def look(self) -> tuple[UpgradeState, list[int]]:
        """What the next program gets."""
        return state_of(self.primary, self.system.folder, [("tcp:8080", self.port.fileno())])

    def take_over(self) -> None:
        """
        Do what an execution does: the old program's objects are gone, the descriptors keep their
        numbers.
        """
        state, descriptors = self.look()
        self.state = UpgradeState.read(json.loads(json.dumps(state.write())))
        self.assertEqual(len(descriptors), len(set(descriptors)))
        kept = {number: os.dup(number) for number in descriptors}
        self.forget(self.primary)
        for number, descriptor in kept.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
        self.port = self.owned(socket.socket(fileno=self.port.detach()))
        self.supervisor.reset_mock()
        start = Takeover(self.state, self.listen)
        self.make(start.seed())
        if self.config.accept == "workers":
            self.primary.listeners.open(0, self.port.dup(), True)
        start.members(self.primary)
        self.primary.open()
        start.workers(self.primary)
        start.connections(self.primary)
        for process in self.system.processes:
            for worker in self.workers:
                if process.pid == worker.process.pid:
                    worker.process = process

    def forget(self, primary: Primary) -> None:
        """Close everything without a word, as the kernel does."""
        arrivals = [*primary.room.arrivals(), *primary.reception.arrivals()]
        self.reactor.removeAll()
        for call in list(self.reactor.getDelayedCalls()):
            call.cancel()
        for handle in primary.workers.handles.values():
            for descriptor, _ in handle.mailbox.box.queue:
                os.close(descriptor)
            handle.mailbox.box.socket.close()
            handle.channel.socket.close()
            handle.mailbox.reading.close()
            handle.process.close()  # type: ignore[attr-defined]
        for box in (primary.returns.box, *primary.returns.leftovers):
            box.socket.close()
        primary.returns.front_desk.close()
        if primary.room._epoll is not None:
            primary.room._epoll.close()
        for arrival in arrivals:
            arrival.sock.close()


class StateTests(HandoverCase):
    """What is known stays known."""

    def test_descriptors(self) -> None:
        """The same descriptors are open as before."""
        self.start()
        self.look()  # the played processes open their output here
        before = open_descriptors()
        self.take_over()
        self.assertEqual(open_descriptors(), before)

    def test_state_changes_nothing(self) -> None:
        """To look at everything changes nothing: if the execution fails, the old one goes on."""
        self.start()
        half = self.arrive(b"GET / HT")
        self.look()
        half.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        self.reactor.settle()
        self.assertEqual(len(self.taken()), 1)

    def test_pool(self) -> None:
        """The workers are in the states that they were in, with the load that they had."""
        self.start(3)
        self.spawn()
        self.primary.workers.retire(2, 30.0, final=False)
        self.workers[0].report(live=7)
        self.reactor.settle()
        self.arrive()
        before = [(m.id, m.slot, m.state, m.load) for m in self.primary.pool.members]
        self.take_over()
        after = [(m.id, m.slot, m.state, m.load) for m in self.primary.pool.members]
        self.assertEqual(after, before)
        self.assertEqual(after[1][2], MemberState.DRAINING)

    def test_counted(self) -> None:
        """What workers had accepted still counts, and once."""
        self.start()
        counted = {"accepted": 5, "routes": [4, 0, 0, 1, 0], "refusals": [[400, 2]], "waiting": 0}

        def report() -> None:
            for worker in self.workers[:2]:
                worker.report(entrance=counted)
            self.reactor.settle()

        report()
        self.take_over()
        for _ in range(2):
            primary = self.primary
            self.assertEqual(primary.listeners.accepted, 10)
            self.assertEqual(primary.dispatcher.routes[How.TAG], 8)
            self.assertEqual(primary.reception.refusals[400], 4)
            report()

    def test_tags(self) -> None:
        """Tags that were given before name the same workers."""
        self.start()
        tags = {number: self.tag(number) for number in (1, 2)}
        self.take_over()
        for number, tag in tags.items():
            self.assertEqual(self.whose(get(f"/?sid={tag}")), number)

    def test_bindings(self) -> None:
        """Keys that were bound before belong to the same workers, whatever bytes they are."""
        self.start()
        self.workers[1].send(Kind.BIND, b"mine\xff\x00")
        self.reactor.settle()
        self.take_over()
        self.assertEqual({self.whose(get("/?sid=mine%ff%00")) for _ in range(4)}, {2})

    def test_subscriptions(self) -> None:
        """A worker that subscribed before gets what is published after, once."""
        self.start()
        self.workers[0].send(Kind.SUBSCRIBE, b"news")
        self.reactor.settle()
        self.take_over()
        self.workers[1].send(Kind.PUBLISH, pack_message(b"news", b"it works"))
        self.reactor.settle()
        told = [unpack_message(body) for body in self.workers[0].told(Kind.MESSAGE)]
        self.assertEqual(told, [(b"news", b"it works")])

    def test_outages(self) -> None:
        """A worker that understands it is told of outages as before, and no other one."""
        self.start()
        self.workers[0].send_json(Kind.READY, interface="web", http=True, told=True)
        self.reactor.settle()
        self.take_over()
        self.primary.bus.outage(5.0)
        self.primary.bus.gap(5.0, 6.0)
        self.reactor.settle()
        told = [worker.told(Kind.OUTAGE, Kind.GAP) for worker in self.workers[:2]]
        self.assertEqual(told, [[b'{"since":5.0}', b'{"since":5.0,"until":6.0}'], []])

    def test_expectations(self) -> None:
        """What the application speaks need not be found out again."""
        self.start(http=False)
        self.take_over()
        self.assertEqual(self.primary.spoken.http, False)
        self.assertFalse(self.primary.reception.expectations.only_http)

    def test_fleet(self) -> None:
        """The fleet has its workers, and starts those that are missing."""
        self.start()
        for number in (1, 2):
            self.primary.supervisor.fleet.ready(number, 0.0)
        self.primary.supervisor.fleet.exited(2, 1, 1.0)
        self.take_over()
        self.assertEqual(self.supervisor.fleet.start(1.0), [Spawn(3, 2, 1)])

    def test_watched(self) -> None:
        """Workers that were ready are to give signs of life; a starting one is not."""
        self.start(1)
        self.spawn()
        self.take_over()
        self.assertEqual(self.supervisor.resume.mock_calls, [mock.call(1)])

    def test_listeners(self) -> None:
        """The listening sockets are named after what the operator wrote."""
        self.take_over()
        self.assertEqual(self.state.listeners, [["tcp:8080", self.port.fileno()]])


class OlderTests(HandoverCase):
    """A primary of version 0.1.0, whose state is of form 2."""

    def forms(self) -> dict[str, Any]:
        """The state as version 0.1.0 writes it."""
        fields: dict[str, Any] = json.loads(json.dumps(self.look()[0].write()))
        for later in ("folder", "beginning", "in_words"):
            del fields[later]
        fleet = fields["fleet"]
        fleet["boot_timeout"] = fleet.pop("start_timeout")
        for instance in fleet["instances"]:
            del instance["why"]
        for arrival in fields["arrivals"]:
            arrival.update(listener=0, server_name="")
        return {**fields, "form": 2}

    def test_read(self) -> None:
        """A state of form 2 becomes one of today: today's names, and no first start under way."""
        self.start()
        self.arrive(b"GET /")
        state = UpgradeState.read(self.forms())
        self.assertEqual((state.beginning, state.in_words), (False, False))
        fleet = restore(state.fleet)
        self.assertEqual(fleet.start_timeout, self.config.start_timeout)
        self.assertEqual(set(fleet.instances), {1, 2})
        self.assertEqual(unpack(state.arrivals[0]["data"]), b"GET /")

    def test_folder(self) -> None:
        """The working directory, which form 2 does not name, keeps the name it is found by."""
        self.assertEqual(UpgradeState.read(self.forms()).folder, "")


class PlacesTests(HandoverCase):
    """Where each `--listen` stands."""

    def test_places(self) -> None:
        """Each `--listen` is found by its text; of several that are the same, in turn."""
        for before, now, found in (
            ("ab", "ab", {0: 0, 1: 1}),
            ("ab", "cba", {0: 2, 1: 1}),
            ("ab", "b", {1: 0}),
            ("aba", "aa", {0: 0, 2: 1}),
            ("a", "aa", {0: 0}),
            ("a", "", {}),
        ):
            self.assertEqual(places(before, now), found, (before, now))

    def test_sockets(self) -> None:
        """Endpoints have the sockets of before; what is no endpoint's any more is closed."""
        self.state = self.look()[0]
        for listen, found in ((("tcp:1", "tcp:8080"), {1: self.port.fileno()}), (("tcp:1",), {})):
            self.assertEqual(Takeover(self.state, listen).sockets(), found)
        with self.assertRaises(OSError):
            os.fstat(self.port.detach())


class EntranceTests(HandoverCase):
    """Workers that accept themselves."""

    options = {"accept": "workers"}

    def setUp(self) -> None:
        super().setUp()
        self.primary.listeners.open(0, self.port.dup(), True)
        self.primary.listeners.start()
        self.addCleanup(lambda: self.primary.listeners.close())

    def forget(self, primary: Primary) -> None:
        super().forget(primary)
        for acceptor in primary.listeners.acceptors:
            acceptor.sock.close()

    def take_over(self) -> None:
        super().take_over()
        self.primary.listeners.start()

    def siblings(self) -> list[tuple[int, int, int]]:
        """The sockets that no endpoint has opened."""
        return self.primary.listeners.snapshot(Descriptors())

    def test_sockets(self) -> None:
        """The sockets of the slots are the same as before; those that are missing are made."""
        self.start()
        before = [os.fstat(d).st_ino for _, _, d in self.siblings()]
        self.take_over()
        after = [os.fstat(d).st_ino for _, _, d in self.siblings()]
        self.assertEqual((len(before), after), (1, before))
        self.assertEqual(len(self.primary.listeners.of(3)), 1)

    def test_another_place(self) -> None:
        """The sockets of slots follow their `--listen`, which may stand elsewhere by now."""
        self.start()
        self.listen = ("tcp:8081", "tcp:8080")
        self.take_over()
        self.assertEqual([(slot, number) for slot, number, _ in self.siblings()], [(2, 1)])

    def test_named_no_more(self) -> None:
        """Sockets of slots whose `--listen` is gone are closed."""
        self.start()
        self.take_over()
        before = open_descriptors()
        ((_, _, descriptor),) = self.siblings()
        self.listen = ("tcp:8081",)
        self.take_over()
        self.assertEqual(self.siblings(), [])
        self.assertEqual(before - open_descriptors(), {descriptor})

    def test_who_accepts(self) -> None:
        """Workers that accepted before go on, untold; the primary accepts where none does."""
        self.start(2)
        self.spawn()
        self.take_over()
        accepting = [a in self.reactor.readers for a in self.primary.listeners.acceptors]
        self.assertEqual(accepting, [False, False, True])
        self.assertEqual([worker.told(Kind.ACCEPT) for worker in self.workers], [[], [], []])
        self.workers[2].ready()
        self.reactor.settle()
        self.assertEqual(self.workers[2].told(Kind.ACCEPT), [b""])


class HandsTests(HandoverCase):
    """Connections that were in the old primary's hands."""

    def test_half_a_head(self) -> None:
        """A connection whose head is not complete goes on where it was."""
        self.start()
        client = self.arrive(b"GET /half HT")
        self.take_over()
        client.send(b"TP/1.1\r\nHost: a\r\n\r\nand more")
        self.reactor.settle()
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, b"GET /half HTTP/1.1\r\nHost: a\r\n\r\nand more")
        self.assertEqual(handoff.hops, 0)

    def test_parked(self) -> None:
        """A connection that waits for a worker gets the first that is ready."""
        self.spawn()
        self.arrive(get("/parked"))
        self.assertEqual(len(self.primary.room), 1)
        self.take_over()
        self.workers[0].ready()
        self.reactor.settle()
        self.assertTrue(self.primary.beginning.under_way)
        self.reactor.advance(OTHERS)
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get("/parked"))

    def test_first_start(self) -> None:
        """A first start goes on, with a worker that was ready before."""
        for worker in (self.spawn(), self.spawn())[:1]:
            worker.ready()
        self.reactor.settle()
        self.arrive(get("/parked"))
        self.take_over()
        self.assertEqual(self.taken(), [])
        self.reactor.advance(OTHERS)
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get("/parked"))

    def test_queue(self) -> None:
        """Hand-offs that a full mailbox did not take come after those that it did, in order."""
        self.start()
        number = self.fill(self.workers[0])
        for extra in range(5):
            self.arrive(get(f"/{extra}?sid={self.tag(1)}"))
        self.take_over()
        got: list[Any] = []
        self.until(lambda: got.extend(self.workers[0].take()) or len(got) >= number + 5)
        targets = [handoff.prefix.split()[1].partition(b"?")[0] for handoff in got]
        self.assertEqual(targets, [b"/"] * number + [b"/%d" % n for n in range(5)])

    def test_leftovers(self) -> None:
        """What a dead worker had left in its mailbox, others serve."""
        self.start(3)
        self.workers[0].take()
        client = self.arrive(get(f"/left?sid={self.tag(1)}"))
        with mock.patch.object(self.primary.returns, "adopt", self.primary.returns.leftovers.add):
            self.workers[0].die(-9)
        self.take_over()
        self.reactor.settle()
        ((worker, handoff),) = self.taken()
        self.assertIn(worker, (2, 3))
        self.assertTrue(handoff.prefix.startswith(b"GET /left"))
        self.assertIsNone(received(client))

    def test_front_desk(self) -> None:
        """What was given back and not yet looked at is routed."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.taken()
        self.workers[0].give(self.workers[0].desk, get(f"/back?sid={self.tag(2)}"))
        self.take_over()
        self.reactor.settle()
        ((worker, handoff),) = self.taken()
        self.assertEqual((worker, handoff.prefix.split()[1][:5]), (2, b"/back"))


class WorkerTests(HandoverCase):
    """Workers that do not notice."""

    def test_half_a_frame(self) -> None:
        """A control frame that had come by half is understood, once."""
        self.start()
        frame = encode(Kind.BIND, b"the key")
        self.workers[1].channel.sendall(frame[:6])
        self.reactor.settle()
        self.take_over()
        self.workers[1].channel.sendall(frame[6:])
        self.reactor.settle()
        self.assertEqual(self.workers[1].told(Kind.BOUND), [b""])
        self.assertEqual(self.workers[0].told(Kind.BIND), [b"2 the key"])

    def test_unsent(self) -> None:
        """What a worker had not yet been told it is told, from the byte on where it stopped."""
        (worker,) = self.start(1)
        channel = self.primary.workers.handles[1].channel
        sent = 0
        while not channel.waiting:
            channel.send(raw(Kind.MESSAGE, b"%d" % sent + bytes(50_000)))
            sent += 1
        self.take_over()
        told: list[bytes] = []
        self.until(lambda: told.extend(worker.told(Kind.MESSAGE)) or len(told) >= sent)
        self.assertEqual([int(body.rstrip(b"\0")) for body in told], list(range(sent)))

    def test_frames_that_wait(self) -> None:
        """Frames that were not read yet are read."""
        self.start()
        self.workers[0].report(live=9)
        self.take_over()
        self.reactor.settle()
        member = self.primary.pool.get(1)
        assert member is not None
        self.assertEqual(member.live, 9)

    def test_ready_after(self) -> None:
        """A worker that was starting is ready when it says so, and is introduced."""
        self.start(1)
        worker = self.spawn()
        self.take_over()
        worker.ready()
        self.reactor.settle()
        worker.take()
        self.assertEqual(set(worker.peers), {1})
        self.assertEqual({self.whose(get()) for _ in range(4)}, {1, 2})

    def test_failed_after(self) -> None:
        """A worker whose application does not load is heard."""
        self.start(1)
        worker = self.spawn()
        self.take_over()
        worker.channel.sendall(encode_json(Kind.FAILED, reason="no such module"))
        self.reactor.settle()
        self.supervisor.load_failed.assert_called_once_with(2, "no such module")

    def test_death_after(self) -> None:
        """A worker's death is noticed; what it had not taken is served by another."""
        self.start()
        self.take_over()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.workers[0].die(-9)
        self.reactor.settle()
        self.supervisor.exited.assert_called_once_with(1, -9)
        self.assertEqual([worker for worker, _ in self.taken()], [2])

    def test_orders(self) -> None:
        """Orders reach a worker as before."""
        self.start()
        self.take_over()
        self.primary.workers.retire(1, 12.0, final=True)
        self.primary.workers.kill(2, hard=False)
        (order,) = self.workers[0].told(Kind.DRAIN)
        self.assertEqual(decode_json(order), {"seconds": 12.0, "final": True})
        self.assertEqual(self.workers[1].process.signals, [3])

    def test_last_words(self) -> None:
        """What a worker prints is logged under its name as before."""
        self.start(1)
        self.take_over()
        with mock.patch("txsticky.primary.supervision.output.log") as log:
            self.workers[0].process.say("[info] still here")
        event = log.emit.call_args
        self.assertEqual(event.args[1].format(**event.kwargs), "worker 1: still here")

    def test_leaving(self) -> None:
        """A worker whose channel and output are closed is expected to end, or is ended."""
        self.start()
        self.workers[0].send(Kind.DONE)
        self.reactor.settle()
        self.workers[0].channel.close()
        self.reactor.settle()
        before = open_descriptors()
        with mock.patch.object(type(self.workers[0].process), "output", -1):
            self.take_over()
        self.assertEqual(open_descriptors() - before, set())
        self.assertFalse(self.primary.workers.handles[1].ready)
        self.primary.workers.retire(1, 5.0, final=True)
        self.supervisor.leaving.reset_mock()
        self.reactor.advance(SILENT)
        self.assertEqual(self.workers[0].process.signals, [])
        self.assertEqual(self.supervisor.leaving.call_args_list, [mock.call(1)])
        self.assertEqual({self.whose(get()) for _ in range(4)}, {2})

    def test_twice(self) -> None:
        """A primary that has taken over can be taken over from."""
        self.start()
        client = self.arrive(b"GET /")
        for _ in range(3):
            self.take_over()
        client.send(b" HTTP/1.1\r\nHost: a\r\n\r\n")
        self.reactor.settle()
        self.assertEqual(len(self.taken()), 1)
