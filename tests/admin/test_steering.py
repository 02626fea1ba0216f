"""What the operator says to the cluster, verb by verb."""

from __future__ import annotations

import base64
import json
import signal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.raw_frames import Kind, unpack_message
from tests.watched import WatchedCase
from txsticky.admin import steering
from txsticky.admin.steering import KEYS_SHOWN, Steering
from txsticky.admin.verbs import VERBS
from txsticky.config import Config


class SteeringCase(WatchedCase):
    """An operator."""

    def setUp(self) -> None:
        super().setUp()
        self.steering = Steering(self.cluster, self.history)

    def say(self, verb: object, **fields: object) -> dict[str, Any]:
        """Say something; it has to be done."""
        answer = self.steering.answer(json.dumps({"verb": verb, **fields}).encode())
        self.assertTrue(answer["ok"], answer)
        json.dumps(answer)
        return answer

    def refused(self, verb: object, **fields: object) -> str:
        """Say something that is refused; returns why."""
        answer = self.steering.answer(json.dumps({"verb": verb, **fields}).encode())
        self.assertFalse(answer["ok"], answer)
        self.assertNotIn("\n", answer["error"])
        return str(answer["error"])

    def signals(self, id: int) -> list[int]:
        """The signals that a worker got."""
        return self.workers[id].process.signals


class LookTests(SteeringCase):
    """Verbs that change nothing."""

    def test_status(self) -> None:
        """`status` is what the status page has."""
        self.start()
        self.assertEqual(self.say("status")["state"], self.look().to_json())

    def test_workers(self) -> None:
        """`workers` is the workers, and the numbers that wait for one."""
        self.start()
        self.die_twice(1)
        answer = self.say("workers")
        self.assertEqual([worker["worker"] for worker in answer["workers"]], [1])
        self.assertEqual([pause["worker"] for pause in answer["pauses"]], [2])

    def test_table(self) -> None:
        """`table` shows the keys with their workers, the key used last first."""
        self.start()
        for key in (b"first", b"n\xf6chste"):
            self.workers[2].send(Kind.BIND, key)
        self.reactor.settle()
        answer = self.say("table")
        self.assertEqual(answer["size"], 2)
        self.assertEqual(
            answer["keys"],
            [
                {"key": "n\\xf6chste", "worker": 2, "id": 2},
                {"key": "first", "worker": 2, "id": 2},
            ],
        )

    def test_large_table(self) -> None:
        """Of a large table the keys used last are shown, and how many keys there are."""
        for number in range(KEYS_SHOWN + 10):
            self.primary.replication.table.bind(b"%d" % number, 1, 0.0)
        answer = self.say("table")
        self.assertEqual((answer["size"], len(answer["keys"])), (KEYS_SHOWN + 10, KEYS_SHOWN))
        self.assertEqual(answer["keys"][0]["key"], str(KEYS_SHOWN + 9))


class SteerTests(SteeringCase):
    """Verbs that do something."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_drain(self) -> None:
        """`drain 2` starts a successor first; only when that is ready the worker drains."""
        self.say("drain", worker=2)
        self.meet()
        self.assertEqual(
            [worker.state for worker in self.look().workers], ["ready", "ready", "starting"]
        )
        self.start(3)
        states = {worker.id: worker.state for worker in self.look().workers}
        self.assertEqual(states, {1: "ready", 2: "draining", 3: "ready"})
        self.assertTrue(self.workers[2].told(Kind.DRAIN))

    def test_drain_of_one_that_is_not_ready(self) -> None:
        """Only a worker that is ready is drained."""
        self.die(2, 1)
        self.reactor.advance(0.1)
        self.meet()
        self.assertEqual(
            self.refused("drain", worker=2),
            "Worker 2 is starting; only one that is ready is drained.",
        )

    def test_kill(self) -> None:
        """`kill 1` kills that worker's process and no other."""
        self.say("kill", worker=1)
        self.assertEqual((self.signals(1), self.signals(2)), ([signal.SIGKILL], []))

    def test_kill_during_a_reload(self) -> None:
        """Of two workers with a number, the one that gets new connections is meant."""
        self.cluster.supervisor.reload()
        self.meet()
        self.say("kill", worker=1)
        self.assertEqual((self.signals(1), self.signals(3)), ([signal.SIGKILL], []))

    def test_add(self) -> None:
        """`add` starts one more."""
        self.assertEqual(self.say("add")["text"], "The number of workers is 3.")
        self.meet()
        self.assertEqual(sorted(self.workers), [1, 2, 3])

    def test_add_too_many(self) -> None:
        """`add` is refused, in a sentence, when there are as many workers as there may be."""
        self.start()
        self.patch(steering, "MOST_WORKERS", 3)
        self.say("add")
        self.assertEqual(self.refused("add"), "There are 3 workers, and never more.")
        self.assertEqual(len(self.cluster.supervisor.fleet.slots), 3)

    def test_remove(self) -> None:
        """`remove` drains the worker with the highest number; the last worker stays."""
        self.say("remove")
        self.assertEqual(
            {worker.worker: worker.state for worker in self.look().workers},
            {1: "ready", 2: "draining"},
        )
        self.assertIn("The last worker stays", self.refused("remove"))

    def test_reload(self) -> None:
        """`reload` begins a reload, and says which generation it brings."""
        answer = self.say("reload")
        self.assertEqual(answer["text"], "The reload begins: generation 2.")
        self.assertTrue(self.look().reloading)
        again = self.say("reload")
        self.assertEqual((answer["generation"], again["generation"]), (2, 3))
        self.assertIn("another one follows", again["text"])

    def test_stop(self) -> None:
        """`stop` stops the cluster gracefully; meanwhile nothing else begins."""
        self.report(1, live=1)
        self.assertEqual(self.say("stop")["text"], "The cluster stops.")
        self.assertEqual(self.cluster.stops, [True])
        for verb in ("add", "reload"):
            self.assertEqual(self.refused(verb), "The cluster is being stopped.")
        self.assertEqual(self.refused("drain", worker=1), "The cluster is being stopped.")
        self.assertEqual(self.say("stop")["text"], "The cluster stops at once.")

    def test_lame_duck(self) -> None:
        """While a lame duck serves on, `stop` says for how long, and nothing else begins."""
        self.cluster.config = Config(lame_duck=2.5)
        self.cluster.lame_duck = True
        self.patch(self.cluster, "stop", lambda graceful: None)
        self.assertIn("serves for 2.5 more seconds", self.say("stop")["text"])
        self.assertEqual(self.look().phase, "lame duck")
        for verb in ("add", "reload"):
            self.assertEqual(self.refused(verb), "The cluster is being stopped.")

    def test_yield(self) -> None:
        """A successor's wish is done if the socket can be given up, and refused else."""
        self.assertIn("keeps its control socket", self.refused("yield"))
        self.steering = Steering(self.cluster, self.history, lambda: True)
        self.assertEqual(self.say("yield")["text"], "The control socket is free.")

    def test_journal(self) -> None:
        """What the operator did is told among the events."""
        self.say("kill", worker=2)
        event = self.look().events[0]
        self.assertEqual((event.text, event.slot), ("The operator says: kill worker 2 (id 2).", 2))


class BadTests(SteeringCase):
    """What cannot be done."""

    def test_every_verb(self) -> None:
        """Each verb that is offered is known; one that needs a number says so."""
        self.start()
        for verb in VERBS:
            if verb.worker:
                self.assertIn("needs the number", self.refused(verb.name))
            else:
                self.say(verb.name)

    def test_unknown_verb(self) -> None:
        """Another verb is refused with those that there are."""
        self.assertEqual(
            self.refused("restart"),
            "There is no verb 'restart'; there are: status, workers, table, drain, kill, add,"
            " remove, reload, stop.",
        )

    def test_unknown_worker(self) -> None:
        """Another number is refused with those that there are."""
        self.assertEqual(self.refused("kill", worker=9), "There is no worker 9; there are: 1, 2.")

    def test_odd_numbers(self) -> None:
        """A number is a whole number, and nothing that only looks like one."""
        for odd in ("1", 1.0, True, None, [1]):
            self.assertIn("needs the number", self.refused("kill", worker=odd))

    @given(st.one_of(st.binary(max_size=40), st.builds(json.dumps, st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.just("verb"), inner),
        max_leaves=5,
    )).map(str.encode)))  # fmt: skip
    def test_nonsense(self, line: bytes) -> None:
        """Whatever comes is answered with a sentence, and the cluster is as it was."""
        before = [worker.state for worker in self.look().workers]
        answer = self.steering.answer(line)
        self.assertFalse(answer["ok"])
        self.assertTrue(answer["error"].endswith("."))
        self.assertEqual([worker.state for worker in self.look().workers], before)

    def test_deep(self) -> None:
        """JSON too deep to be read is no request."""
        self.assertIn("one JSON object", self.steering.answer(b"[" * 4000)["error"])


class PublishTests(SteeringCase):
    """What programs publish that are no workers."""

    def publish(self, topic: str, message: bytes) -> dict[str, Any]:
        """Publish."""
        return self.say("publish", topic=topic, message=base64.b64encode(message).decode())

    def test_told(self) -> None:
        """The workers that listen get the message, and are counted."""
        self.start()
        self.workers[1].send(Kind.SUBSCRIBE, b"t")
        self.reactor.settle()
        self.assertEqual(self.publish("t", b"\0m")["told"], 1)
        self.reactor.settle()
        (body,) = self.workers[1].told(Kind.MESSAGE)
        self.assertEqual(unpack_message(body), (b"t", b"\0m"))
        self.assertEqual(self.publish("another", b"m")["told"], 0)

    def test_refused(self) -> None:
        """A topic or a message that is none is refused."""
        self.start()
        for topic, message in (("", ""), ("t", "%"), ("t", 7), (3, ""), ("t" * 65_536, "")):
            self.assertIn("base64", self.refused("publish", topic=topic, message=message))
