"""What the operator can do to a running cluster, verb by verb."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable
from typing import Any, Final

from ..core.lifecycle.states import MOST_WORKERS, Phase
from ..core.messages.frames import TOPIC_LIMIT
from ..core.routing.pool import MemberState
from ..primary.supervision.worker_handle import WorkerHandle
from .history import History
from .state import Managed, look
from .verbs import VERBS

#: Keys of the table that are shown: the last ones used.
KEYS_SHOWN: Final = 1000

Answer = dict[str, Any]


class Refused(Exception):
    """A request that is not done; its text is a sentence for the operator."""


class Steering:
    """
    Does what the operator says.

    :param cluster: what is steered.
    :param history: knows what a moment cannot show.
    :param give_up: closes the control socket if the cluster leaves; returns whether it does.
    """

    def __init__(
        self, cluster: Managed, history: History, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        self._cluster = cluster
        self._give_up = give_up
        self._history = history
        self._log = cluster.journal.log
        self._actions: dict[str, Callable[..., Answer]] = {
            "status": self._status,
            "workers": self._workers,
            "table": self._table,
            "drain": self._drain,
            "kill": self._kill,
            "add": self._add,
            "remove": self._remove,
            "reload": self._reload,
            "stop": self._stop,
        }

    def answer(self, line: bytes) -> Answer:
        """Do what a line asks for, and tell what came of it."""
        try:
            return {"ok": True, **self._act(line)}
        except Refused as why:
            return {"ok": False, "error": str(why)}

    def _act(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            raise Refused('A request is one JSON object in a line, such as {"verb": "status"}.')
        name = request.get("verb")
        if name == "publish":
            return self._publish(request.get("topic"), request.get("message"))
        if name == "yield":
            return self._yield()
        verb = next((verb for verb in VERBS if verb.name == name), None)
        if verb is None:
            known = ", ".join(verb.name for verb in VERBS)
            raise Refused(f"There is no verb {name!r}; there are: {known}.")
        action = self._actions[verb.name]
        return action(self._handle(request.get("worker"))) if verb.worker else action()

    def _handle(self, number: object) -> WorkerHandle:
        """The worker that a number means: of several, the one that gets new connections."""
        primary = self._cluster.primary
        if type(number) is not int:
            raise Refused("This verb needs the number of a worker, such as 2.")
        handles = [handle for handle in primary.workers.handles.values() if handle.slot == number]
        if not handles:
            known = ", ".join(
                str(slot) for slot in sorted({h.slot for h in primary.workers.handles.values()})
            )
            raise Refused(f"There is no worker {number}; there are: {known or 'none'}.")
        ready = [member.id for member in primary.pool.in_state(MemberState.READY)]
        return max(handles, key=lambda handle: (handle.id in ready, handle.id))

    # ------------------------------------------------------------------ to look

    def _status(self) -> Answer:
        return {"state": look(self._cluster, self._history).to_json()}

    def _workers(self) -> Answer:
        state = self._status()["state"]
        return {"workers": state["workers"], "pauses": state["pauses"]}

    def _table(self) -> Answer:
        primary = self._cluster.primary
        bound = primary.replication.table.items()
        slots = {handle.id: handle.slot for handle in primary.workers.handles.values()}
        shown = [
            {"key": key.decode(errors="backslashreplace"), "worker": slots.get(id), "id": id}
            for key, id in bound[: -KEYS_SHOWN - 1 : -1]
        ]
        return {"size": len(bound), "keys": shown}

    # ------------------------------------------------------------------- the bus

    def _publish(self, topic: object, message: object) -> Answer:
        """Publish what a program says that is no worker (`ipc.outside`)."""
        try:
            name = str(topic).encode() if isinstance(topic, str) else b""
            content = base64.b64decode(str(message), validate=True)
        except ValueError:
            name = content = b""
        if not 0 < len(name) <= TOPIC_LIMIT or not isinstance(message, str):
            raise Refused(f"A topic has 1 to {TOPIC_LIMIT} bytes, and a message is base64.")
        return {"told": self._cluster.primary.bus.publish(name, content)}

    # ----------------------------------------------------------------- to steer

    def _yield(self) -> Answer:
        """Leave the control socket to a successor, which asks for it (`service`)."""
        if not self._give_up():
            raise Refused("The cluster runs, and keeps its control socket.")
        return {"text": "The control socket is free."}

    def _drain(self, handle: WorkerHandle) -> Answer:
        self._while_running()
        member = self._cluster.primary.pool.get(handle.id)
        if member is None or member.state is not MemberState.READY:
            state = member.state.value if member else "gone"
            raise Refused(f"Worker {handle.slot} is {state}; only one that is ready is drained.")
        self._cluster.supervisor.drain(handle.id)
        return {"text": f"Worker {handle.slot} finishes once its successor is ready."}

    def _kill(self, handle: WorkerHandle) -> Answer:
        self._tell("kill", handle)
        handle.send_signal(signal.SIGKILL)
        return {"text": f"Worker {handle.slot} (pid {handle.process.pid}) is killed."}

    def _add(self) -> Answer:
        if len(self._cluster.supervisor.fleet.slots) >= MOST_WORKERS:
            raise Refused(f"There are {MOST_WORKERS} workers, and never more.")
        return self._scale(1)

    def _remove(self) -> Answer:
        if len(self._cluster.supervisor.fleet.slots) == 1:
            raise Refused("The last worker stays; `stop` stops the cluster.")
        return self._scale(-1)

    def _scale(self, delta: int) -> Answer:
        self._while_running()
        self._tell("add" if delta > 0 else "remove")
        self._cluster.supervisor.scale(delta)
        wanted = len(self._cluster.supervisor.fleet.slots)
        return {"text": f"The number of workers is {wanted}.", "wanted": wanted}

    def _reload(self) -> Answer:
        self._while_running()
        self._tell("reload")
        fleet = self._cluster.supervisor.fleet
        another = fleet.reloading
        self._cluster.supervisor.reload()
        if another:
            text = "A reload is under way; another one follows it."
        else:
            text = f"The reload begins: generation {fleet.generation}."
        return {"text": text, "generation": fleet.generation + another}

    def _stop(self) -> Answer:
        self._tell("stop")
        again = self._cluster.supervisor.fleet.phase is not Phase.RUNNING
        self._cluster.stop(graceful=True)
        if self._cluster.lame_duck:
            seconds = self._cluster.config.lame_duck
            return {"text": f"The cluster serves for {seconds:g} more seconds, and stops."}
        return {"text": "The cluster stops at once." if again else "The cluster stops."}

    def _while_running(self) -> None:
        running = self._cluster.supervisor.fleet.phase is Phase.RUNNING
        if not running or self._cluster.lame_duck:
            raise Refused("The cluster is being stopped.")

    def _tell(self, verb: str, handle: WorkerHandle | None = None) -> None:
        if handle is None:
            self._log.info("The operator says: {verb}.", verb=verb)
            return
        self._log.info(
            "The operator says: {verb} worker {slot} (id {id}).",
            verb=verb,
            slot=handle.slot,
            id=handle.id,
            generation=handle.generation,
        )
