"""
The Autobahn test suite, with and without reloads: ``python -m tests.autobahn [CASES...]``.

Each server is tested alone, under txsticky with WebSockets that may move, and there once more while
the cluster is reloaded every two seconds. A case that passes alone and not there is a failure;
others whose verdict differs are printed. (A server alone is not always of one mind: whether it has
answered one message before it sees that the next is wrong depends on how the bytes are read.)

The suite runs on Python 2.7 only. ``$AUTOBAHN_PYTHON`` names an interpreter (``python2.7``), and
``$AUTOBAHN_TESTSUITE`` the folder with the suite::

    python2.7 -m pip install --target FOLDER autobahntestsuite
    touch FOLDER/zope/__init__.py

Cases are named as the suite does, ``1.*`` or ``5.17``; without any, all are run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from attrs import field, frozen

from tests.integration.cluster import Cluster, Server, free_port

APPS = "tests.integration.moving_apps"
COMPLETE = "The reload is complete."
#: Seconds from one reload to the next.
EVERY = 2.0
#: Verdicts of cases that passed.
PASSED = frozenset({"OK, OK", "NON-STRICT, OK", "INFORMATIONAL, INFORMATIONAL"})
_RUN = "from autobahntestsuite.wstest import run; run()"
_ALONE = (
    "from twisted.internet import reactor; from tests.integration.moving_apps import autobahn;"
    "reactor.listenTCP(int(__import__('sys').argv[1]), autobahn()); reactor.run()"
)


class Missing(Exception):
    """The suite is not here; the argument says what to do."""


@frozen
class Tested:
    """
    A server.

    :ivar name: for the reader.
    :ivar alone: the command that serves at the port behind it.
    :ivar app: for txsticky, with options and environment.
    """

    name: str
    alone: tuple[str, ...]
    app: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(factory=dict)


SERVERS = (
    Tested("autobahn", ("-c", _ALONE), f"{APPS}:autobahn", ("--factory",)),
    Tested(
        "uvicorn, websockets-sansio",
        ("-m", "uvicorn", f"{APPS}:asgi", "--ws", "websockets-sansio", "--port"),
        f"{APPS}:asgi",
        environment={"UVICORN_WS": "websockets-sansio"},
    ),
)


class Reloads:
    """
    Reloads a cluster again and again.

    :ivar count: how often it was.
    """

    def __init__(self, cluster: Server) -> None:
        self.count = 0
        self._cluster = cluster
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._reload)

    def __enter__(self) -> Reloads:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _reload(self) -> None:
        while not self._over.wait(EVERY):
            if self._cluster.log().count(COMPLETE) >= self.count:
                self._cluster.signal(signal.SIGHUP)
                self.count += 1


def suite() -> tuple[str, str]:
    """
    The interpreter for the suite, and the folder that it is in.

    :raises Missing: there is none.
    """
    python = shutil.which(os.environ.get("AUTOBAHN_PYTHON", "python2.7"))
    folder = os.environ.get("AUTOBAHN_TESTSUITE", "")
    if python is None or not (Path(folder) / "autobahntestsuite").is_dir():
        raise Missing(str(__doc__).partition("The suite runs")[2])
    return python, folder


def verdicts(port: int, cases: list[str]) -> dict[str, str]:
    """Run cases against a server; returns, by case, how it behaved and how it closed."""
    python, folder = suite()
    with tempfile.TemporaryDirectory(prefix="autobahn-") as reports:
        server = {"agent": "server", "url": f"ws://127.0.0.1:{port}/ws"}
        spec = {"outdir": reports, "servers": [server], "cases": cases, "exclude-cases": []}
        file = Path(reports) / "spec.json"
        file.write_text(json.dumps({**spec, "exclude-agent-cases": {}}))
        subprocess.run(
            [python, "-c", _RUN, "-m", "fuzzingclient", "-s", str(file)],
            cwd=reports,
            env={**os.environ, "PYTHONPATH": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        told = json.loads((Path(reports) / "index.json").read_text())["server"]
    return {case: f"{each['behavior']}, {each['behaviorClose']}" for case, each in told.items()}


def alone(tested: Tested, cases: list[str]) -> dict[str, str]:
    """The verdicts of a server alone."""
    port = free_port()
    server = Server([*tested.alone, str(port)], port)
    server.probe = ""
    with server:
        return verdicts(port, cases)


def moving(tested: Tested, cases: list[str], reloads: bool) -> tuple[dict[str, str], int]:
    """The verdicts under txsticky, and how often it was reloaded."""
    options = ("--graceful-timeout", "20", *tested.options)
    with Cluster(tested.app, *options, probe="", environment=tested.environment) as cluster:
        if not reloads:
            return verdicts(cluster.port, cases), 0
        with Reloads(cluster) as again:
            return verdicts(cluster.port, cases), again.count


def told(name: str, found: dict[str, str], others: dict[str, str]) -> int:
    """Print what was found; returns how many cases have failed that had passed with `others`."""
    counts = Counter(found.values())
    print(f"{name}: {', '.join(f'{count} {kind}' for kind, count in counts.most_common())}")
    different = [case for case in others if found.get(case) != others[case]]
    for case in different:
        print(f"  {case}: {found.get(case, 'not run')}; alone {others[case]}")
    sys.stdout.flush()
    return sum(others[case] in PASSED and found.get(case) not in PASSED for case in different)


def main(cases: list[str]) -> int:
    """Run the suite against all servers."""
    try:
        suite()
    except Missing as what:
        print(f"The suite runs{what}")
        return 1
    failures = 0
    for tested in SERVERS:
        by_itself = alone(tested, cases)
        told(f"{tested.name}, alone", by_itself, by_itself)
        found, _ = moving(tested, cases, reloads=False)
        failures += told(f"{tested.name}, txsticky", found, by_itself)
        found, count = moving(tested, cases, reloads=True)
        failures += told(f"{tested.name}, txsticky, {count} reloads", found, by_itself)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["*"]))
