"""
The control socket: one JSON object in a line each way.

``{"verb": "drain", "worker": 2}`` is answered with ``{"ok": true, "text": ...}`` and what the verb
shows, or with ``{"ok": false, "error": ...}``, a sentence for the operator.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from ..core.pool import State
from ..core.stages import Phase
from ..errors import ListenError
from ..handle import WorkerHandle
from .history import History
from .state import Managed, look
from .verbs import VERBS

#: Seconds after which a silent client is hung up on.
PATIENCE: Final = 60.0
#: Keys of the table that are shown: the last ones used.
KEYS_SHOWN: Final = 1000
BACKLOG: Final = 16

Answer = dict[str, Any]


class Refused(Exception):
    """A request that is not done; its text is a sentence for the operator."""


class Control:
    """
    Does what the operator says.

    :param cluster: what is steered.
    :param history: knows what a moment cannot show.
    """

    def __init__(self, cluster: Managed, history: History) -> None:
        self._cluster = cluster
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
        handles = [handle for handle in primary.handles.values() if handle.slot == number]
        if not handles:
            known = ", ".join(
                str(slot) for slot in sorted({h.slot for h in primary.handles.values()})
            )
            raise Refused(f"There is no worker {number}; there are: {known or 'none'}.")
        ready = [member.id for member in primary.pool.in_state(State.READY)]
        return max(handles, key=lambda handle: (handle.id in ready, handle.id))

    # ------------------------------------------------------------------ to look

    def _status(self) -> Answer:
        return {"state": look(self._cluster, self._history).to_json()}

    def _workers(self) -> Answer:
        state = self._status()["state"]
        return {"workers": state["workers"], "pauses": state["pauses"]}

    def _table(self) -> Answer:
        primary = self._cluster.primary
        bound = primary.table.items()
        slots = {handle.id: handle.slot for handle in primary.handles.values()}
        shown = [
            {"key": key.decode(errors="backslashreplace"), "worker": slots.get(id), "id": id}
            for key, id in bound[: -KEYS_SHOWN - 1 : -1]
        ]
        return {"size": len(bound), "keys": shown}

    # ----------------------------------------------------------------- to steer

    def _drain(self, handle: WorkerHandle) -> Answer:
        self._while_running()
        member = self._cluster.primary.pool.get(handle.id)
        if member is None or member.state is not State.READY:
            state = member.state.value if member else "gone"
            raise Refused(f"Worker {handle.slot} is {state}; only one that is ready is drained.")
        self._tell("drain", handle)
        self._cluster.supervisor.drain(handle.id)
        return {"text": f"Worker {handle.slot} finishes once its successor is ready."}

    def _kill(self, handle: WorkerHandle) -> Answer:
        self._tell("kill", handle)
        handle.send_signal(signal.SIGKILL)
        return {"text": f"Worker {handle.slot} (pid {handle.process.pid}) is killed."}

    def _add(self) -> Answer:
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
        return {"text": "The cluster stops at once." if again else "The cluster stops."}

    def _while_running(self) -> None:
        if self._cluster.supervisor.fleet.phase is not Phase.RUNNING:
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


class ControlConnection(LineOnlyReceiver, TimeoutMixin):
    """
    One connection of an operator.

    :param answer: answers a line.
    """

    delimiter = b"\n"
    MAX_LENGTH = 4096
    transport: Any

    def __init__(self, answer: Callable[[bytes], Answer]) -> None:
        self._answer = answer

    def connectionMade(self) -> None:
        """Wait, but not for ever."""
        self.setTimeout(PATIENCE)

    def lineReceived(self, line: bytes) -> None:
        """A request has come."""
        self.resetTimeout()
        self._send(self._answer(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """It is too long to be one."""
        self._send({"ok": False, "error": f"A request has at most {self.MAX_LENGTH} bytes."})
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The operator has gone."""
        self.setTimeout(None)

    def _send(self, answer: Answer) -> None:
        self.transport.write(json.dumps(answer).encode() + b"\n")


class _Factory(Factory):
    noisy = False

    def __init__(self, answer: Callable[[bytes], Answer]) -> None:
        self._answer = answer

    def buildProtocol(self, addr: IAddress | None) -> ControlConnection:
        return ControlConnection(self._answer)

    def logPrefix(self) -> str:
        return "txsticky control"


class _Port(unix.Port):
    """A listening UNIX socket that at its end removes its own file, and no other's."""

    _identity: tuple[int, int] | None = None

    def startListening(self) -> None:
        before = os.umask(0o177)  # the file gets its mode when it is made, not a moment later
        try:
            super().startListening()
        finally:
            os.umask(before)
        self._identity = _identity(os.fsdecode(self.getHost().name))

    def connectionLost(self, reason: object) -> None:
        path = os.fsdecode(self.getHost().name)
        if _identity(path) == self._identity:
            os.unlink(path)
        tcp.Port.connectionLost(self, reason)


def _identity(path: str) -> tuple[int, int] | None:
    """Tell a file from another one of the same name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def listen(path: str, control: Control, reactor: Any) -> IListeningPort:
    """
    Open the control socket, for this user alone.

    A socket that nobody answers at, left by a cluster that was killed, is replaced.

    :raises ListenError: another cluster answers there, or it cannot be.
    """
    port = _Port(os.fsencode(path), _Factory(control.answer), BACKLOG, 0o600, reactor)
    directory = -1
    try:
        # Two clusters that start at the same moment look one after the other.
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        _make_room(path)
        port.startListening()
    except (OSError, CannotListenError) as error:
        cause = getattr(error, "socketError", error)
        reason = getattr(cause, "strerror", None) or str(cause)
        raise ListenError(endpoint=f"{path} (--control)", reason=reason) from None
    finally:
        if directory >= 0:
            os.close(directory)
    return port


def _make_room(path: str) -> None:
    """
    Remove a socket that nobody answers at.

    :raises OSError: somebody does, or it is none.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another cluster answers there")
