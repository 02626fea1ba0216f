"""
WebSockets over reloads: ``python -m benchmarks websockets [SERVER...]``.

Half of the clients talk all the time, messages of 1 B to 1 MiB, in one frame or in several, with
pings between. What is told: how many were closed, what was said, and what a move of an idle one
costs. A message that is lost, doubled or reordered ends the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from tests.integration import chromium
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.talk import Talk

COMPLETE = "The reload is complete."
#: Of messages, in bytes: each form of a frame's length, and some that take many reads.
SIZES = (*(1, 10, 130, 2_000, 3, 40, 5_000, 20, 100, 300) * 9, 70_000, 70_000, 200_000, 1 << 20)
#: Seconds that a drain may take.
DRAIN = 60
#: WebSockets of one page: Chromium opens 255 in all.
OF_A_PAGE = 200
TICKS = os.sysconf("SC_CLK_TCK")
_APPS = "tests.integration"
_MOVE = ("--websockets", "move")


@frozen
class Served:
    """
    A server that WebSockets are spoken by.

    :ivar app: what is served.
    :ivar options: further options of the command line.
    :ivar environment: what chooses the implementation.
    """

    app: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(factory=dict)

    def cluster(self) -> Cluster:
        """Two workers."""
        options = ("--graceful-timeout", str(DRAIN), *self.options)
        app = f"{_APPS}.{self.app}"
        return Cluster(app, *options, probe="", environment=self.environment)


def _uvicorn(name: str) -> Served:
    return Served("moving_fastapi:app", environment={"UVICORN_WS": name})


SERVERS = {
    "autobahn": Served("moving_apps:autobahn", ("--factory",)),
    "twisted": Served("moving_apps:twisted", ("--factory", *_MOVE)),
    "websockets": _uvicorn("websockets"),
    "sansio": _uvicorn("websockets-sansio"),
    "wsproto": _uvicorn("wsproto"),
    "simple-websocket": Served("moving_apps:wsgi", _MOVE),
}


def reload(cluster: Cluster) -> None:
    """Reload, and wait until the old workers have ended."""
    before = cluster.log().count("has left")
    cluster.signal(signal.SIGHUP)
    until(lambda: cluster.log().count("has left") >= before + cluster.size, 4 * DRAIN)


def spent(cluster: Cluster) -> float:
    """Seconds of CPU of a cluster so far, with those of its workers that have ended."""
    seconds = 0
    for process in cluster.living():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += sum(map(int, fields[11 : 15 if process.pid == cluster.pid else 13]))
    return seconds / TICKS


async def talking(served: Served, count: int, reloads: int) -> str:
    """
    Talk over reloads.

    :raises AssertionError: something was lost, doubled or reordered.
    """
    with served.cluster() as cluster:
        talk = Talk(f"ws://127.0.0.1:{cluster.port}/ws", count, SIZES)
        talk.pause = 0.5
        await talk.open()
        talk.begin()
        start = time.monotonic()
        for _ in range(reloads):
            done = asyncio.ensure_future(asyncio.to_thread(reload, cluster))
            while not done.done():
                await asyncio.sleep(0.2)
                talk.look()
            done.result()
        seconds = time.monotonic() - start
        await talk.end()
        closed = sum(socket.close_code is not None for socket in talk.sockets)
        moves = [int(told["txsticky-moved"]) for told in await talk.who()]
        codes = await talk.close()
    return (
        f"{count} WebSockets, {reloads} reloads in {seconds:.0f} s: {closed} closed (all at the end"
        f" with {codes}), {talk.said} messages came back in order, {sum(moves)} moves, the fewest"
        f" {min(moves)}"
    )


async def moving(served: Served, count: int) -> str:
    """What a move of an idle WebSocket costs: the CPU of a reload with them, and without."""
    with served.cluster() as cluster:
        await asyncio.to_thread(reload, cluster)
        costs = []
        talk = Talk(f"ws://127.0.0.1:{cluster.port}/ws", count, SIZES)
        for _ in range(2):
            before = spent(cluster)
            await asyncio.to_thread(reload, cluster)
            costs.append(spent(cluster) - before)
            if not talk.sockets:
                await talk.open()
        await talk.close()
    milliseconds = (costs[1] - costs[0]) / count * 1000
    return f"a move of {count} idle ones takes {milliseconds:.2f} ms of CPU each"


_PAGE = """
const [port, count] = arguments;
window.ended = 0; window.wrong = 0; window.said = 0;
window.all = [...Array(count).keys()].map(number => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  let sent = 0;
  const say = () => socket.send(new Blob([`${number} ${++sent} `, "x".repeat(sent * 37 % 9000)]));
  socket.onopen = () => number % 2 || say();
  socket.onclose = () => { window.ended++; };
  socket.onmessage = async message => {
    if (!(await message.data.text()).startsWith(`${number} ${sent} `)) window.wrong++;
    window.said++;
    setTimeout(say, 50);
  };
  return socket;
});
"""


def chromium_pages(count: int, reloads: int) -> str:
    """What becomes of the WebSockets of a page in Chromium, in reloads."""
    if why := chromium.missing():
        return f"left out: {why}"
    with SERVERS["sansio"].cluster() as cluster, chromium.Browser() as browser:
        browser.open(f"http://127.0.0.1:{cluster.port}/")  # from elsewhere it may not connect
        browser.script(_PAGE, cluster.port, count)
        browser.until("window.all.every(socket => socket.readyState === 1)", what="all are open")
        for _ in range(reloads):
            reload(cluster)
        said = browser.script("return window.said")
        browser.until(f"window.said > {said} + {count} / 2", what="all go on")
        told = browser.script("return [window.ended, window.wrong, window.said]")
    return f"{count} WebSockets, {reloads} reloads: {told[0]} closed, {told[1]} of {told[2]} wrong"


def main(arguments: Sequence[str]) -> int:
    """
    Measure all servers, or those that are named.

    :param arguments: of the command line.
    :returns: the exit code.
    """
    parser = argparse.ArgumentParser(prog="benchmarks websockets", description=__doc__)
    parser.add_argument("--websockets", type=int, default=1000, help="how many")
    parser.add_argument("--reloads", type=int, default=10, help="how often")
    parser.add_argument("servers", nargs="*", help=f"{', '.join(SERVERS)}, chromium")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    for name in options.servers or [*SERVERS, "chromium"]:
        if name == "chromium":
            count = min(OF_A_PAGE, options.websockets)
            print(f"{name}: {chromium_pages(count, options.reloads)}", flush=True)
            continue
        served = SERVERS[name]
        print(f"{name}: {asyncio.run(moving(served, options.websockets))}", flush=True)
        told = asyncio.run(talking(served, options.websockets, options.reloads))
        print(f"{name}: {told}", flush=True)
    return 0
