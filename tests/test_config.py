"""The configuration: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
import os

import attrs
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsticky.config import Config, default_workers
from txsticky.core.listen import endpoint_string
from txsticky.core.routing.balance import BALANCERS
from txsticky.core.routing.keys import inserted
from txsticky.core.routing.router import Router
from txsticky.errors import ConfigError


class ValueTests(SynchronousTestCase):
    """The values of the fields."""

    def refused(self, **fields: object) -> str:
        """The sentence with which a configuration is refused."""
        return str(self.assertRaises(ConfigError, Config, **fields))

    def test_defaults(self) -> None:
        """A configuration of which nothing is said can be."""
        self.patch(os, "environ", {})
        config = Config()
        self.assertEqual((config.listen, config.workers), (("tcp:8080",), default_workers({})))
        self.assertEqual((config.sticky, config.interface, config.tls), ("auto", "auto", False))

    def test_frozen(self) -> None:
        """A configuration never changes."""
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, Config(), "workers", 2)

    def test_limits(self) -> None:
        """The least and the most that each number can be are taken, and nothing beyond."""
        for name, least, most, step in (
            ("workers", 1, 512, 1),
            ("head_timeout", 0.05, 3600, 0.01),
            ("head_limit", 1024, 131072, 1),
            ("head_backlog", 1, 1_000_000, 1),
            ("graceful_timeout", 0, 86400, 0.1),
            ("worker_timeout", 2, 86400, 0.1),
            ("start_timeout", 0.1, 86400, 0.05),
            ("queue_timeout", 0, 86400, 0.1),
            ("max_requests", 0, 1_000_000_000, 1),
            ("max_requests_jitter", 0, 1_000_000_000, 1),
            ("keep_alive", 0, 86400, 0.1),
            ("backlog", 1, 65535, 1),
        ):
            for value in (least, most):
                self.assertEqual(getattr(Config(**{name: value}), name), value)
            for value in (least - step, most + step, float("nan"), float("inf"), "many", None):
                self.assertIn("--" + name.replace("_", "-"), self.refused(**{name: value}))

    def test_start_timeout(self) -> None:
        """A worker may take for ever to start; by default it has five minutes, a request one."""
        self.assertEqual(Config(start_timeout=0).start_timeout, 0)
        self.assertEqual((Config().start_timeout, Config().queue_timeout), (300.0, 60.0))

    def test_worker_timeout(self) -> None:
        """A worker is never given up for less than a few heartbeats of silence; 0 is never."""
        self.assertEqual(Config(worker_timeout=0).worker_timeout, 0)
        self.assertEqual(
            self.refused(worker_timeout=1),
            "--worker-timeout cannot be 1: a number from 2 to 86400, or 0 for never.",
        )

    def test_whole_numbers(self) -> None:
        """What is counted is a whole number; what is measured need not be."""
        for name in ("workers", "head_limit", "max_requests", "max_requests_jitter", "backlog"):
            self.assertIn("a whole number from ", self.refused(**{name: 2000.5}))
        for name in ("head_timeout", "graceful_timeout", "worker_timeout", "keep_alive"):
            self.assertEqual(getattr(Config(**{name: 2.5}), name), 2.5)  # type: ignore[arg-type]

    def test_sentence(self) -> None:
        """A refusal names option and value, and says what would do."""
        self.assertEqual(
            self.refused(workers=0),
            "--workers cannot be 0: a whole number from 1 to 512.",
        )

    def test_choices(self) -> None:
        """A name that is not one of those there are is refused with all of them."""
        self.assertIn("one of primary workers", self.refused(accept="everybody"))
        sentence = self.refused(balance="best")
        for name in BALANCERS:
            self.assertIn(name, sentence)
        self.assertIn("auto web wsgi asgi protocol", self.refused(interface="cgi"))

    def test_parsed(self) -> None:
        """What has a form of its own is refused if it cannot be read, under the option's name."""
        self.assertIn("--sticky", self.refused(sticky="cookies:a"))
        self.assertIn("--forwarded-allow-ips", self.refused(forwarded_allow_ips="10.0.0.0/99"))
        self.assertIn("--bus", self.refused(bus="http://example"))
        self.assertIn("--root-path", self.refused(root_path="app/"))

    def test_listen(self) -> None:
        """There is at least one endpoint to listen on, and each can be."""
        self.assertIn("--listen", self.refused(listen=()))
        self.assertIn("--listen", self.refused(listen=["8080", "example.org:80"]))

    def test_lone_string(self) -> None:
        """A lone string is one endpoint, or one file, and not as many as it has letters."""
        config = Config(listen="tcp:8080", tls_cert="cert.pem", tls_key="key.pem")  # type: ignore[arg-type]
        self.assertEqual(config.listen, ("tcp:8080",))
        self.assertEqual((config.tls_cert, config.tls_key), (("cert.pem",), ("key.pem",)))

    def test_tls(self) -> None:
        """Each certificate has its key."""
        self.assertTrue(Config(tls_cert=["a", "b"], tls_key=["c", "d"]).tls)  # type: ignore[arg-type]
        self.assertIn("--tls-key", self.refused(tls_cert=["a", "b"], tls_key=["c"]))
        self.assertIn("--tls-key", self.refused(tls_key=["c"]))

    def test_router_of_the_demo(self) -> None:
        """The demo has its ids as keys, and nothing inserted, unless the operator names keys."""
        for options, inserts in (({}, False), ({"app": "a:b"}, True), ({"sticky": "insert"}, True)):
            chain = Config(**options).router(b"s" * 16).chain
            self.assertEqual(inserted(chain) is not None, inserts, options)

    def test_machine(self) -> None:
        """The name of the machine stands in front of tags; the cookie is that of all machines."""
        router = Config(machine="a", sticky="insert", listen=["9001"]).router(b"s" * 16)
        self.assertTrue(router.signer.mint(1, "x").startswith("a.x.1."))
        cookie = inserted(router.chain)
        assert cookie is not None
        self.assertEqual(cookie.name, "txsticky")
        self.assertIn("--machine", self.refused(machine="a.b"))
        self.assertIn("--machine", self.refused(machine=""))

    def test_router(self) -> None:
        """A configuration makes the router that it describes."""
        router = Config(sticky="cookie:a,ip", balance="random").router(b"s" * 16)
        self.assertIsInstance(router, Router)
        self.assertEqual((len(router.chain), router.by_address), (2, True))

    def test_json(self) -> None:
        """A configuration travels to the workers as JSON, and is the same there."""
        config = Config(
            app="chat:app",
            listen=["8080", "unix:/run/chat"],  # type: ignore[arg-type]
            workers=4,
            sticky="path:^/r/(.*),hash:ip",
            tls_cert=["a"],  # type: ignore[arg-type]
            tls_key=["b"],  # type: ignore[arg-type]
            head_timeout=0.5,
            access_log="-",
            proxy_protocol=True,
        )
        text = json.dumps(config.to_json())
        self.assertEqual(Config.from_json(json.loads(text)), config)


class WorkersTests(SynchronousTestCase):
    """How many workers when none are named."""

    def test_platform(self) -> None:
        """The platforms' variable says how many workers there are."""
        self.assertEqual(default_workers({"WEB_CONCURRENCY": "3"}), 3)

    def test_cores(self) -> None:
        """Without a variable there is one worker a core that this process may use."""
        cores = len(os.sched_getaffinity(0))
        for environ in ({}, {"WEB_CONCURRENCY": ""}):
            self.assertEqual(default_workers(environ), cores)

    def test_nonsense(self) -> None:
        """A variable that is no number of workers is refused by its name."""
        for text in ("many", "0", "-1", "513", "1.5", "²", " "):
            error = self.assertRaises(ConfigError, default_workers, {"WEB_CONCURRENCY": text})
            self.assertIn("WEB_CONCURRENCY", str(error))


class EndpointTests(SynchronousTestCase):
    """What --listen takes."""

    def test_forms(self) -> None:
        """A port, address and port, or one of Twisted's strings."""
        for listen, endpoint in (
            ("8080", "tcp:8080:backlog=9"),
            ("127.0.0.1:8080", "tcp:8080:interface=127.0.0.1:backlog=9"),
            ("0.0.0.0:80", "tcp:80:interface=0.0.0.0:backlog=9"),
            ("localhost:8080", "tcp:8080:interface=127.0.0.1:backlog=9"),
            ("[::1]:8080", r"tcp6:8080:interface=\:\:1:backlog=9"),
            ("[::]:8080", r"tcp6:8080:interface=\:\::backlog=9"),
            ("tcp:8080", "tcp:8080"),
            ("tcp:8080:interface=10.0.0.1", "tcp:8080:interface=10.0.0.1"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
        ):
            self.assertEqual(endpoint_string(listen, 9), endpoint)

    def test_twisted_reads_them(self) -> None:
        """Twisted reads what comes out."""
        for listen, port in (("8080", 8080), ("127.0.0.1:81", 81), ("[::1]:82", 82)):
            endpoint = serverFromString(Clock(), endpoint_string(listen, 9))
            self.assertEqual((endpoint._port, endpoint._backlog), (port, 9))
        self.assertEqual(endpoint._interface, "::1")

    def test_impossible(self) -> None:
        """A port or an address that there cannot be is refused."""
        for listen in ("65536", "127.0.0.1:99999", "[::1]:65536", "1.2.3.400:80", "[::1::2]:80"):
            error = self.assertRaises(ConfigError, endpoint_string, listen, 9)
            self.assertIn(listen, str(error))

    def test_names(self) -> None:
        """A name is refused: a name server would have to be asked for its address."""
        error = self.assertRaises(ConfigError, endpoint_string, "example.org:80", 9)
        self.assertIn("example.org:80", str(error))
        self.assertIn("address:port", str(error))
