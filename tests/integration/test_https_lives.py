"""What becomes of TLS connections when workers come and go, and without TLS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import pair
from tests.integration import rawws
from tests.integration.cluster import ROOT, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import (
    Connection,
    Fault,
    request,
)
from tests.integration.secure import APPS, NAME, SecureCluster


class Lives(SynchronousTestCase):
    """Workers that come and go."""

    def test_reload(self) -> None:
        """After HUP the new certificate is shown; a broken one leaves the old workers serving."""
        with SecureCluster("echo") as cluster:
            old = cluster.workers()
            kept = cluster.pairs[NAME]
            Path(kept.key).write_bytes(b"not a key\n")
            cluster.signal(signal.SIGHUP)
            until(lambda: "no private key in PEM format" in cluster.log(), 20, "it is said")
            until(lambda: cluster.workers() == old, 20, "the new worker has gone")
            self.assertEqual(cluster.get().status, 200)
            cluster.pairs[NAME] = pair(cluster.papers, NAME, "new.test")
            cluster.signal(signal.SIGHUP)
            until(lambda: not any(each.pid in old.values() for each in cluster.living()), 30)
            for _ in range(6):
                self.assertEqual(cluster.get("/", name="new.test").status, 200)

    def test_reload_under_load(self) -> None:
        """Kept-alive clients come through a reload without one failed request."""
        with SecureCluster("echo", "--graceful-timeout", "10", workers=2) as cluster:
            old = set(cluster.workers().values())
            clients = [cluster.connect() for _ in range(8)]
            rounds, last = 0, 0
            cluster.signal(signal.SIGHUP)
            while old & set(cluster.workers().values()) or rounds < last + 3:
                rounds += 1
                if old & set(cluster.workers().values()):
                    last = rounds
                for number, client in enumerate(clients):
                    answer = client.ask(request("GET", "/"))
                    self.assertEqual(answer.status, 200)
                    if (answer.header("connection") or "").lower() == "close":
                        client.end()
                        client.close()
                        clients[number] = cluster.connect()
                time.sleep(0.02)
            for client in clients:
                client.close()

    def test_relays_last_while_their_worker_drains(self) -> None:
        """A WebSocket that is relayed goes on until the worker that relays it has to go."""
        with SecureCluster("mixed", "--factory", "--graceful-timeout", "4", workers=2) as cluster:
            tags = cluster.tags()
            with cluster.connect() as connection:
                here = connection.ask(request("GET", "/")).header("x-worker")
                slot, tag = next(item for item in tags.items() if str(item[0]) != here)
                rawws.accepted(connection.ask(rawws.handshake(f"/ws?sid={tag}")))
                relaying = cluster.workers()[int(here or "0")]
                os.kill(relaying, signal.SIGTERM)
                for turn in range(10):
                    time.sleep(0.3)
                    connection.send(rawws.frame(b"%d" % turn))
                    answer = rawws.message(connection.reader)[1]
                    self.assertEqual(answer, f"{slot}:{turn}".encode())
                until(lambda: relaying not in cluster.workers().values(), 20, "it has left")

    def test_relayed_requests_move(self) -> None:
        """When the worker at the other end leaves, its end of the pipe moves to another."""
        # Not mktemp(): the path of a UNIX socket has 107 bytes at most.
        control = str(Path(self.enterContext(tempfile.TemporaryDirectory()), "control"))
        options = ("--control", control, "--graceful-timeout", "3")
        with SecureCluster("echo", *options, workers=2) as cluster:
            tags = cluster.tags()
            with cluster.connect() as connection:
                here = connection.ask(request("GET", "/")).header("x-worker")
                slot, tag = next(item for item in tags.items() if str(item[0]) != here)
                old = str(cluster.workers()[slot])
                ctl = [sys.executable, "-m", "txsticky", "ctl", "--control", control]
                subprocess.run(
                    [*ctl, "drain", str(slot)],
                    cwd=ROOT,
                    check=True,
                    timeout=60,
                    stdout=subprocess.DEVNULL,
                )
                seen: list[str | None] = []

                def moved() -> bool:
                    answer = connection.ask(request("POST", f"/?sid={tag}", body=b"hello"))
                    self.assertEqual((answer.status, answer.header("x-length")), (200, "5"))
                    seen.append(answer.header("x-pid"))
                    return seen[-1] != old

                until(moved, 20, "it is served by another")
                self.assertEqual(seen[0], old, "the worker that drains still has the session")

    def test_a_worker_that_dies(self) -> None:
        """If the worker that serves a relayed request dies, its response does not look complete."""
        with SecureCluster("echo", workers=2) as cluster:
            tags = cluster.tags()
            with cluster.connect() as connection:
                here = connection.ask(request("GET", "/")).header("x-worker")
                slot, tag = next(item for item in tags.items() if str(item[0]) != here)
                connection.send(request("GET", f"/?sid={tag}&delay=30"))
                time.sleep(0.3)
                cluster.kill_worker(slot)
                with self.assertRaises((Fault, OSError)):
                    connection.response()
            cluster.wait_ready()
            self.assertEqual(cluster.get().status, 200)

    def test_stop(self) -> None:
        """TERM lets a response finish, and closes what is idle."""
        with SecureCluster("echo", workers=2) as cluster:
            idle, busy = cluster.connect(), cluster.connect()
            idle.ask(request("GET", "/"))
            busy.send(request("GET", "/?delay=1"))
            time.sleep(0.3)
            cluster.signal(signal.SIGTERM)
            idle.end()
            self.assertEqual(busy.response().status, 200)
            self.assertEqual(cluster.wait(), 0)
            idle.close()
            busy.close()


class Without(SynchronousTestCase):
    """What cannot be served."""

    def said(self, *arguments: str) -> tuple[int, str]:
        """The exit code and all that was said by a cluster with these options."""
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        done = subprocess.run(
            [sys.executable, "-m", "txsticky", "-l", listen, *arguments, f"{APPS}:web"],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def test_wrong_pair(self) -> None:
        """A key that is another certificate's ends the program with one line and exit code 3."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        one, other = pair(folder, "one.test"), pair(folder, "other.test")
        for more in ((), ("--check-config",)):
            code, said = self.said("--tls-cert", one.certificate, "--tls-key", other.key, *more)
            expected = (
                "txsticky: TLS cannot be served:"
                f" the key in {other.key} is not that of the certificate in {one.certificate}.\n"
            )
            self.assertEqual((code, said), (3, expected))

    def test_missing(self) -> None:
        """A certificate that is not there ends the program with exit code 3."""
        code, said = self.said("--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key")
        self.assertEqual(code, 3)
        self.assertEqual(
            said,
            "txsticky: TLS cannot be served:"
            " the certificate nowhere.pem cannot be read (No such file or directory).\n",
        )


class Others(SynchronousTestCase):
    """Other applications and listeners."""

    def test_not_http(self) -> None:
        """A protocol that is not HTTP is served over TLS, and speaks first."""
        with (
            SecureCluster(":greeter", "--sticky", "auto", probe="") as cluster,
            cluster.connect() as connection,
        ):
            greeting = connection.socket.recv(100)
            self.assertTrue(greeting.startswith(b"hello from "), greeting)
            connection.send(b"echo")
            self.assertEqual(connection.socket.recv(100)[1:], b":echo")

    def test_proxy_protocol(self) -> None:
        """The PROXY header before the handshake names the client, to every worker."""
        with SecureCluster(":web", "--proxy-protocol", probe="", workers=2) as cluster:
            seen: dict[str, Any] = {}

            def ask(target: str) -> Any:
                with cluster.plain() as plain:
                    plain.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
                    secured = cluster.context().wrap_socket(plain.socket, server_hostname=NAME)
                    with Connection.over(secured) as connection:
                        return json.loads(connection.ask(request("GET", target)).body)

            def asked() -> bool:
                told = ask("/")
                seen[told["worker"]] = told["told"]
                return len(seen) == 2

            until(asked, 20, "both have answered")
            for slot, sid in seen.items():
                told = ask(f"/?sid={sid}")
                self.assertEqual((told["worker"], told["client"]), (slot, ["192.0.2.7", 4711]))

    def test_by_address(self) -> None:
        """With ip keys every request of a client is served where its connection is."""
        with SecureCluster("echo", "--sticky", "ip", workers=3) as cluster:
            workers = {cluster.get().header("x-worker") for _ in range(10)}
            self.assertEqual(len(workers), 1)
