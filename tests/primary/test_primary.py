"""The primary composed: what it makes of the workers' frames, and of the end."""

from __future__ import annotations

import signal
from typing import Any
from unittest import mock

from tests.primary.cases import PrimaryCase, get
from tests.raw_frames import Kind, decode_json, encode, pack_message
from tests.shells import (
    ended,
)
from txsticky.core.lifecycle.timing import SILENT
from txsticky.core.routing.pool import MemberState
from txsticky.ipc.channel import Channel
from txsticky.primary.replicas.replication import VIEW_INTERVAL
from txsticky.primary.supervision.suspicion import SHORT, STUCK, STUCK_AFTER


class SayTests(PrimaryCase):
    """What else workers say."""

    def test_load(self) -> None:
        """A report is a sign of life, and is kept."""
        self.start()
        self.workers[0].report(live=3, taken=2, lag=0.5)
        self.reactor.settle()
        member = self.primary.pool.get(1)
        self.assertEqual((member.live, member.taken, member.lag), (3, 2, 0.5))
        self.assertEqual(self.supervisor.heartbeat.call_args_list, [mock.call(1, takes=True)])
        self.assertEqual(self.primary.workers.handles[1].load.live, 3)

    def takes(self) -> bool:
        """Whether the last report of a worker counted as a sign of life."""
        return bool(self.supervisor.heartbeat.call_args.kwargs["takes"])

    def stuck(self, seconds: float, taken: int = 0, **more: Any) -> None:
        """Have the first worker report now and after so many seconds."""
        for wait in (0.0, seconds):
            self.reactor.advance(wait)
            self.workers[0].report(taken=taken, **more)
            self.reactor.settle()

    def test_takes_nothing(self) -> None:
        """A worker that reports, and takes none of its hand-offs, is spared and not alive."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER)
        self.assertEqual(self.primary.workers.suspicions.of(1), (STUCK,))
        self.assertFalse(self.takes())
        self.workers[0].report(taken=1)
        self.reactor.settle()
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_takes_soon(self) -> None:
        """A moment is no reason for suspicion, nor is it when nothing waits."""
        self.start()
        self.stuck(STUCK_AFTER * 2)
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER - 0.01)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_takes_some(self) -> None:
        """A worker that takes one after the other is alive, however many wait for it."""
        self.start()
        for _ in range(3):
            self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER - 0.1, taken=1)
        self.stuck(STUCK_AFTER - 0.1, taken=2)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_short_is_no_silence(self) -> None:
        """A worker that takes nothing for want of descriptors is spared, and lives."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER, short=True)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((SHORT,), True))

    def test_draining_is_no_silence(self) -> None:
        """A worker that is told to leave is not hurried for what still waits for it."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.primary.workers.retire(1, 30.0, final=False)
        self.stuck(STUCK_AFTER)
        self.assertTrue(self.takes())

    def test_deaf(self) -> None:
        """What waits for a worker whose mailbox has ended goes to others, and it is replaced."""
        self.start()
        client = self.arrive(get(f"/?sid={self.tag(1)}"))
        self.workers[0].send(Kind.DEAF)
        self.reactor.settle()
        (handoff,) = self.workers[1].take()
        self.assertEqual(handoff.prefix, self.arrival.data)
        self.assertEqual(self.supervisor.retire_request.call_args_list, [mock.call(1)])
        self.assertEqual({self.whose(get()) for _ in range(4)}, {2})
        self.workers[0].die(1)
        self.reactor.settle()
        self.assertFalse(ended(client))

    def test_views(self) -> None:
        """After reports all workers are told the load, once in a while and not at each report."""
        self.start()
        for live in range(5):
            self.workers[0].report(live=live)
        self.reactor.settle()
        self.assertEqual(self.workers[1].told(Kind.POOL), [])
        self.reactor.advance(VIEW_INTERVAL)
        (body,) = self.workers[1].told(Kind.POOL)
        self.assertEqual(decode_json(body)["pool"]["members"][0][4], 4)
        self.reactor.advance(10 * VIEW_INTERVAL)
        self.assertEqual(self.workers[1].told(Kind.POOL), [])

    def test_failed(self) -> None:
        """An application that does not load is told to the supervisor, with the reason."""
        self.spawn().send_json(Kind.FAILED, reason="no such module")
        self.reactor.settle()
        self.assertEqual(
            self.supervisor.load_failed.call_args_list, [mock.call(1, "no such module")]
        )

    def test_last_words(self) -> None:
        """What a worker said before it ended is told before that, however late it is read."""
        worker = self.spawn()
        worker.send_json(Kind.FAILED, reason="no such module")
        worker.die(3)
        self.assertEqual(
            self.supervisor.method_calls,
            [mock.call.load_failed(1, "no such module"), mock.call.exited(1, 3)],
        )

    def test_retire(self) -> None:
        """A worker may ask to be replaced."""
        self.start()
        self.workers[1].send(Kind.RETIRE)
        self.reactor.settle()
        self.assertEqual(self.supervisor.retire_request.call_args_list, [mock.call(2)])

    def test_bus(self) -> None:
        """What a worker publishes reaches all that subscribed, itself included, and no other."""
        self.count = 3
        self.start(3)
        self.workers[0].send(Kind.SUBSCRIBE, b"news")
        self.workers[1].send(Kind.SUBSCRIBE, b"news")
        self.workers[2].send(Kind.SUBSCRIBE, b"weather")
        self.reactor.settle()
        body = pack_message(b"news", b"hello")
        self.workers[0].send(Kind.PUBLISH, body)
        self.reactor.settle()
        self.assertEqual(
            [worker.told(Kind.MESSAGE) for worker in self.workers], [[body], [body], []]
        )
        self.workers[0].send(Kind.UNSUBSCRIBE, b"news")
        self.workers[1].die(-9)
        self.workers[0].send(Kind.PUBLISH, body)
        self.reactor.settle()
        self.assertEqual(self.workers[0].told(Kind.MESSAGE), [])

    def test_nonsense(self) -> None:
        """A frame that makes no sense ends the channel, as damage does, and is told."""
        self.start()
        with mock.patch.object(Channel, "_log") as log:
            self.workers[0].channel.sendall(encode(Kind.LOAD, b"nonsense"))
            self.reactor.settle()
        self.assertEqual(log.error.call_count, 1)
        self.assertFalse(self.primary.workers.handles[1].channel.connected)

    def test_rotate(self) -> None:
        """All workers can be told to reopen their logs."""
        self.start()
        self.primary.workers.rotate_logs()
        self.assertEqual([len(worker.told(Kind.ROTATE)) for worker in self.workers], [1, 1])


class LeaveTests(PrimaryCase):
    """Workers that leave."""

    def test_retire(self) -> None:
        """A worker that retires gets nothing new, what is pinned to it still, and is told."""
        self.start()
        self.primary.workers.retire(1, 30.0, False)
        (body,) = self.workers[0].told(Kind.DRAIN)
        self.assertEqual(decode_json(body), {"seconds": 30.0, "final": False})
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 1)
        (body,) = self.workers[1].told(Kind.POOL)
        self.assertEqual(decode_json(body)["pool"]["members"][0][2], MemberState.DRAINING.value)

    def test_done(self) -> None:
        """A worker that is done gets nothing any more, all are told, and it may go."""
        self.start()
        self.primary.workers.retire(1, 30.0, False)
        self.workers[0].send(Kind.DONE)
        self.reactor.settle()
        self.assertIn((Kind.GO, b""), self.workers[0].frames())
        self.assertEqual(self.supervisor.leaving.call_args_list, [mock.call(1)])
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 2)
        members = decode_json(self.workers[1].told(Kind.POOL)[-1])["pool"]["members"]
        self.assertEqual([member[0] for member in members], [2])

    def test_done_and_gone(self) -> None:
        """A worker that was done, and whose channel ends, is left to end in its own time."""
        self.start()
        self.workers[0].send(Kind.DONE)
        self.reactor.settle()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.reactor.advance(60)
        self.assertEqual(self.workers[0].process.signals, [])

    def test_channel_ends(self) -> None:
        """A worker whose channel ends unasked gets nothing more, and is given up if it stays."""
        self.start()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.workers[0].process.signals, [])
        self.reactor.advance(SILENT)
        self.assertEqual(self.workers[0].process.signals, [])
        self.assertEqual(self.supervisor.leaving.call_args_list, [mock.call(1)])

    def test_channel_ends_with_the_process(self) -> None:
        """A worker that ends by itself is not killed: its exit code is its own."""
        self.start()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.workers[0].die(7)
        self.reactor.advance(60)
        self.assertEqual(self.supervisor.leaving.call_args_list, [])
        self.assertEqual(self.supervisor.exited.call_args_list, [mock.call(1, 7)])

    def test_channel_ends_before_it_was_ready(self) -> None:
        """The channel's end of a starting worker is the supervisor's business."""
        worker = self.spawn()
        worker.channel.close()
        self.reactor.settle()
        self.reactor.advance(60)
        self.assertEqual(worker.process.signals, [])

    def test_kill(self) -> None:
        """A worker that is killed softly gets SIGQUIT, else SIGKILL."""
        self.start()
        self.primary.workers.kill(1, hard=False)
        self.primary.workers.kill(1, hard=True)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT, signal.SIGKILL])

    def test_unknown(self) -> None:
        """What concerns a worker that is gone does nothing."""
        self.primary.workers.kill(99, hard=True)
        self.primary.workers.retire(99, 1.0, False)
        self.primary.workers.suspect(99, True)
        self.assertEqual(len(self.primary.pool), 0)

    def test_exit_counted(self) -> None:
        """How workers ended is counted."""
        self.start()
        self.workers[0].die(-11)
        self.assertEqual(self.primary.workers.exits, {-11: 1})


class CloseTests(PrimaryCase):
    """The end."""

    def test_everything(self) -> None:
        """Of a primary that is closed nothing is open, watched or due."""
        self.start()
        self.arrive(get()[:9])
        self.arrive(b"x\r\n")
        self.workers[0].report()
        self.workers[0].die()
        self.workers[1].die()
        self.reactor.turn()
        self.primary.close()
        self.assertEqual(self.reactor.getReaders() + self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
