"""A cluster that runs, in processes of its own, for a test that speaks to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..config import Config
from ..core.option import Flag, Several, declared, switch
from ..errors import TxstickyError, Unanswered
from ..ipc.outside import ask
from ..system.system import monotonic

#: Seconds that a start, a reload and an end may take on a machine that is very busy.
_PATIENCE: Final = 120.0
#: Seconds between two looks.
_MOMENT: Final = 0.02
#: Seconds that workers have to finish their requests, if the test does not say.
_GRACEFUL: Final = 3.0
_LISTEN: Final = "tcp:0:interface=127.0.0.1"
_LOG_SHOWN: Final = 8000


class ClusterFailed(TxstickyError, AssertionError):
    """The cluster {what}. It has said: {log}."""


class RunningCluster:
    """
    A cluster on a free port of this host; a context manager, which starts and ends it.

    ::

        with RunningCluster("chat:app", sticky="cookie:session") as cluster:
            answer = urllib.request.urlopen(cluster.url)

    The workers import the application from where this process would: they have its working
    directory and its path.

    :param app: the application, as module:attribute.
    :param workers: the number of workers.
    :param environ: environment variables of the cluster, beside those of this process.
    :param options: other options, by their names in `Config`. By default requests have three
        seconds to finish when the cluster ends (``graceful_timeout``).
    :raises ConfigError: an option is out of range.
    :ivar config: its configuration.
    :ivar control: the path of its control socket, as for ``txsticky ctl`` and ``txsticky publish``.
    """

    def __init__(
        self,
        app: str,
        workers: int = 2,
        *,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="txsticky-"))
        self.control = str(self._folder / "control")
        given = {"graceful_timeout": _GRACEFUL, **options}
        try:
            self.config = Config(
                app=app, workers=workers, listen=(_LISTEN,), control=self.control, **given
            )
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self._environ = environ or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ("", 0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"The cluster has said:\n{self.log()[-_LOG_SHOWN:]}")
        self.stop()

    # ------------------------------------------------------------------ what it is

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """Where it is: ``http://127.0.0.1:40123``, without a slash at the end."""
        return f"http{'s' if self.config.tls else ''}://{self.host}:{self.port}"

    @property
    def workers(self) -> dict[int, int]:
        """The process id of each worker that is ready, by the worker's number."""
        return {w["worker"]: w["pid"] for w in self.state()["workers"] if w["state"] == "ready"}

    def log(self) -> str:
        """Everything that it has said so far."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def state(self) -> dict[str, Any]:
        """Return its state, as ``txsticky ctl --json status`` tells it."""
        state: dict[str, Any] = ask(self.control, {"verb": "status"})["state"]
        return state

    # ------------------------------------------------------------ what it is to do

    def start(self) -> Self:
        """
        Start, and wait until all workers are ready.

        :raises ClusterFailed: it does not start; the sentence has its log.
        """
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "txsticky", *_words(self.config)],
                env=_environment(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            state = self._wait("does not start", lambda state: state["ready"] >= state["wanted"])
        except BaseException:
            self._kill()
            raise
        host, _, port = state["listen"][0].rpartition(":")
        self._address = (host, int(port))
        return self

    def reload(self) -> None:
        """
        Replace all workers, as HUP does, and wait until that is done.

        :raises ClusterFailed: it has not been done; the sentence has the log.
        """
        before = set(self.workers.values())
        answer = ask(self.control, {"verb": "reload"})
        if not answer["ok"]:
            raise ClusterFailed(what=f"refuses to reload: {answer['error']}", log=self.log())
        self._wait(
            "does not reload",
            lambda state: (
                not (state["reloading"] or before & {w["pid"] for w in state["workers"]})
                and state["ready"] >= state["wanted"]
            ),
        )

    def stop(self) -> None:
        """
        End it, if it runs.

        :raises ClusterFailed: it did not end, and was killed.
        """
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise ClusterFailed(what="did not end", log=self.log()) from None
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _kill(self) -> None:
        """End a start that has failed; its log stays until `stop`."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(_PATIENCE)

    def _wait(self, what: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the state is such; returns it."""
        process, end = self._process, monotonic() + _PATIENCE
        assert process is not None
        while monotonic() < end:
            try:
                state = self.state()
            except Unanswered:
                state = None
            if state is not None and done(state):
                return state
            try:
                process.wait(_MOMENT)
            except subprocess.TimeoutExpired:
                continue
            what = f"has ended with exit code {process.returncode}"
            break
        raise ClusterFailed(what=what, log=self.log()[-_LOG_SHOWN:])


def _words(config: Config) -> Iterator[str]:
    """Write a configuration as the words of a command line."""
    for field, told in declared(Config):
        value = getattr(config, field.name)
        if field.name == "app" or value is None:
            continue
        if isinstance(told.kind, Flag):
            if value:
                yield switch(field)
        elif isinstance(told.kind, Several):
            yield from (f"{switch(field)}={each}" for each in value)
        else:
            yield f"{switch(field)}={value}"
    yield config.app


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of a cluster: this process's, without settings of txsticky."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("TXSTICKY_")}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**own, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}
