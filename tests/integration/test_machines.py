"""Three machines behind real balancers, with the configurations that `txsticky balancer` prints."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import certificates
from tests.integration.machines import BIND, Box, Visitors, boxes, front, whole
from tests.integration.processes import SLACK
from tests.integration.proxies import ABSENT, PROXIES
from txsticky.core.machines import haproxy, nginx
from txsticky.core.machines.settings import BalancerSettings, Machine

BALANCERS = ("haproxy", "nginx")


async def beside(function: Callable[[], Any]) -> Any:
    """Call what blocks, while the clients go on."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


async def eventually(fact: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(15 * SLACK):
        while not fact():
            await asyncio.sleep(0.05)


class MachinesTests(SynchronousTestCase):
    """One machine comes, one dies, one is drained, both come back; clients never rest."""

    def setUp(self) -> None:
        for name in BALANCERS:
            if name in ABSENT:
                raise SkipTest(ABSENT[name])

    def test_lives(self) -> None:
        """Nothing is wrong or stuck, and lost is only what was on the machine that died."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            a, b, c = machines = boxes(folder, "abc")
            c.arguments[-1:-1] = ["--accept", "workers"]
            for machine in machines:
                stack.callback(machine.stop)
            b.spawn()
            a.start()
            fronts = [stack.enter_context(front(name, machines)) for name in BALANCERS]
            self.urls = [f"http://127.0.0.1:{proxy.port}" for proxy in fronts]
            asyncio.run(self.lives(a, b, c))

    async def lives(self, a: Box, b: Box, c: Box) -> None:
        """Each machine's fate, and what the clients see of it."""
        await eventually(lambda: b.readiness() == 200)
        c.spawn()
        async with Visitors(self.urls[0]) as by_haproxy, Visitors(self.urls[1]) as by_nginx:
            both = (by_haproxy, by_nginx)

            async def come(machine: str) -> None:
                await asyncio.gather(*(visitors.meet(machine) for visitors in both))
                self.assertEqual([visitors.failures() for visitors in both], [[], []])

            await come("a")
            await come("b")
            await come("c")
            await beside(a.crash)
            await self.spread()
            await asyncio.gather(*(visitors.turn() for visitors in both))
            await beside(a.again)
            for visitors in both:
                self.assertLessEqual({lost.machine for lost in visitors.failures()}, {"a"})
            await come("a")
            await self.drain(b, by_haproxy, by_nginx)
            await beside(b.again)
            await come("b")

    async def spread(self) -> None:
        """Clients whose machine is gone spread over the others, and get cookies to stay there."""
        handshake = "/socket.io/?EIO=4&transport=polling"
        headers = {"Cookie": "txsticky=a.0000.1.0123456789"}
        for url in self.urls:
            named = []
            for _ in range(12):
                async with (
                    aiohttp.ClientSession(headers=headers) as http,
                    http.get(url + handshake) as response,
                ):
                    named.append(response.cookies["txsticky"].value[:2])
            # The machine with the fewest connections gets each of them: that may be the same one.
            self.assertLessEqual(set(named), {"b.", "c."}, named)

    async def drain(self, b: Box, by_haproxy: Visitors, by_nginx: Visitors) -> None:
        """A lame duck serves on, and HAProxy sends nothing new to it; then its sessions end."""
        b.signal(signal.SIGTERM)
        await eventually(lambda: b.readiness() == 503)
        async with asyncio.timeout(15 * SLACK):
            while any("b" in met for met in (await by_haproxy.turn(1))[1::2]):
                pass
        await by_nginx.meet("b")
        self.assertEqual(by_haproxy.failures() + by_nginx.failures(), [])
        b.signal(signal.SIGTERM)
        await beside(b.wait)
        for visitors in (by_haproxy, by_nginx):
            await visitors.turn()
            # Its sessions end, and are unknown elsewhere.
            for ended in visitors.failures():
                self.assertEqual(ended.machine, "b", ended)
                self.assertRegex(ended.what, " 400 ")


class CheckTests(SynchronousTestCase):
    """The balancers' own checks of what they are to read."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        pair = certificates.pair(self.folder, "localhost")
        self.certificate, self.key = Path(pair.certificate), Path(pair.key)
        self.certificate.with_name(self.certificate.name + ".key").write_bytes(
            self.key.read_bytes()
        )
        self.inner = {"machines_tls": "app.internal", "machines_ca": str(self.certificate)}

    def settings(self, **settings: Any) -> BalancerSettings:
        """Three machines, one by IPv6."""
        told = ("a=10.0.0.2:8080", "b-2=10.0.0.3:8080", "c_3=[fd00::4]:8080")
        return BalancerSettings(machines=tuple(map(Machine.read, told)), **settings)

    def check(self, name: str, text: str, *words: str) -> None:
        """A balancer finds nothing to complain of."""
        path = PROXIES[name]
        if path is None:
            raise SkipTest(ABSENT[name])
        file = self.folder / "configuration"
        file.write_text(text.replace("{folder}", str(self.folder)).replace("{user}", "root"))
        done = subprocess.run([path, *words, str(file)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in (done.stdout + done.stderr).splitlines():
            self.assertNotRegex(line, r"(?i)warn|alert|emerg", text)

    def test_haproxy(self) -> None:
        """haproxy -c takes each combination of the options without a warning."""
        for settings in (
            {},
            {"bind": "[::1]:8443", "tls_cert": str(self.certificate), "cookie": "app"},
            {"proxy_protocol": True, "status_port": 9191, "bind": "10.0.0.1:80"},
            self.inner,
        ):
            self.check("haproxy", haproxy.configure(self.settings(**settings)), "-c", "-f")

    def test_nginx(self) -> None:
        """nginx -t takes each combination of the options without a warning."""
        tls = {"tls_cert": str(self.certificate), "tls_key": str(self.key)}
        for settings in ({"bind": "8080"}, {"bind": BIND, "cookie": "app"}, tls, self.inner):
            text = whole(nginx.configure(self.settings(**{"bind": "8443", **settings})))
            self.check("nginx", text, "-e", "stderr", "-t", "-c")
