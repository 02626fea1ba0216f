"""Sessions in memory, with the default options: the inserted cookie, and keys learned."""

from __future__ import annotations

import json
import signal
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster, ClusterTestCase
from tests.integration.processes import until
from tests.integration.rawhttp import Response, request
from tests.integration.session_apps import COOKIE, HEADER

APP = "tests.integration.session_apps"


class Jar:
    """A client with a cookie jar, a new connection for each request."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def ask(self, cluster: Cluster, method: str, target: str, *more: tuple[str, str]) -> Response:
        """Ask, and keep the cookies of the answer."""
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = [*([("Cookie", jar)] if jar else []), *more, ("Host", f"a:{cluster.port}")]
        with cluster.connect() as connection:
            data = request(method, target, headers=headers).replace(b"Host: cluster.test\r\n", b"")
            response = connection.ask(data)
        for name, value in response.headers:
            if name.lower() == "set-cookie":
                name, _, rest = value.partition("=")
                self.cookies[name] = rest.partition(";")[0]
                if "Max-Age=0" in rest:
                    del self.cookies[name]
        return response


class DefaultCase(ClusterTestCase):
    """A cluster of three workers with the default options."""

    interface: ClassVar[str]
    options = ("--sticky", "auto")
    workers = 3
    probe = ""

    def server(self) -> Cluster:
        app = f"{APP}:{self.interface}"
        cluster = Cluster(
            app, *self.options, "--interface", self.interface, workers=3, probe="/begin"
        )
        cluster.answers = lambda target="/": _ready(cluster)  # type: ignore[method-assign]
        return cluster


def _ready(cluster: Cluster) -> bool:
    """Whether all workers are, as the log says."""
    return cluster.log().count("is ready.") >= cluster.size


class _Sessions:
    """Sessions on one interface."""

    cluster: Cluster

    def test_cookie(self) -> None:
        """A client that keeps cookies is served by one worker, and gets the cookie once."""
        workers = set()
        for _ in range(6):
            jar = Jar()
            begun = jar.ask(self.cluster, "POST", "/begin")
            self.assertIn(f"txsticky_{self.cluster.port}", jar.cookies)
            del jar.cookies[COOKIE]
            session = begun.header(HEADER) or ""
            for count in range(1, 4):
                answer = jar.ask(self.cluster, "GET", "/", ("X-Other", session))
                self.assertEqual(answer.status, 404)
                self.assertEqual(answer.header("x-worker"), begun.header("x-worker"), count)
                self.assertIsNone(answer.header("set-cookie"))
            workers.add(begun.header("x-worker"))
        self.assertEqual(workers, {"1", "2", "3"})

    def test_header(self) -> None:
        """A session whose id stands in a header is found without a cookie, and ends with DELETE."""
        for _ in range(6):
            begun = Jar().ask(self.cluster, "POST", "/begin")
            named = (HEADER, begun.header(HEADER) or "")
            for count in range(1, 4):
                answer = Jar().ask(self.cluster, "GET", "/", named)
                self.assertEqual((answer.status, json.loads(answer.body)[1]), (200, count))
                self.assertIsNone(answer.header("set-cookie"))
            self.assertEqual(Jar().ask(self.cluster, "DELETE", "/", named).status, 200)
            again = Jar().ask(self.cluster, "GET", "/", named)
            self.assertEqual(again.status, 404)
            self.assertIsNotNone(again.header("set-cookie"))


class WebTests(DefaultCase, _Sessions):
    """twisted.web."""

    interface = "web"

    def test_bad_cookies(self) -> None:
        """A cookie that is cut, doubled, forged or foreign keeps no client from its worker."""
        jar = Jar()
        worker = jar.ask(self.cluster, "POST", "/begin").header("x-worker")
        name, good = f"txsticky_{self.cluster.port}", jar.cookies[f"txsticky_{self.cluster.port}"]
        forged = good[:-1] + ("A" if good[-1] != "A" else "B")
        for cookies in (
            f"{name}={good[:9]}; {name}={good}",
            f"{name}={forged}; {name}={good}",
            f"{name}={good}; {name}={forged}",
            f"{name}=; {name}={good}",
            f'{name}="{good}"',
            f"txsticky_1={forged}; {name}_9={forged}; {name}={good}",
            "; ".join([*(f"c{n}={'x' * 60}" for n in range(60)), f"{name}={good}"]),
        ):
            headers = [("Cookie", cookies)]
            with self.cluster.connect() as connection:
                answer = connection.ask(request("POST", "/begin", headers=headers))
            self.assertEqual((answer.status, answer.header("x-worker")), (200, worker), cookies)
            self.assertEqual(len(_inserted(answer, name)), 0, cookies)
        for cookies in (f"{name}={forged}", f"{name}={good[:-3]}", f"{name}=", f"{name}_9={good}"):
            headers = [("Cookie", cookies)]
            with self.cluster.connect() as connection:
                answer = connection.ask(request("POST", "/begin", headers=headers))
            self.assertEqual((answer.status, len(_inserted(answer, name))), (200, 1), cookies)


class WsgiTests(DefaultCase, _Sessions):
    """WSGI."""

    interface = "wsgi"


class AsgiTests(DefaultCase, _Sessions):
    """ASGI."""

    interface = "asgi"

    def test_reload(self) -> None:
        """Over a reload a client gets a new worker, and stays with that."""
        jar = Jar()
        before = json.loads(jar.ask(self.cluster, "POST", "/begin").body)[0]
        self.cluster.signal(signal.SIGHUP)
        until(lambda: self.cluster.log().count("has left") >= 3, 30, "the old workers have left")
        begun = jar.ask(self.cluster, "POST", "/begin")
        self.assertEqual(begun.status, 200)
        pids = {json.loads(jar.ask(self.cluster, "GET", "/").body)[0] for _ in range(6)}
        self.assertEqual(len(pids), 1)
        self.assertNotIn(before, pids)


class LearnedCookieTests(DefaultCase):
    """`--sticky cookie:NAME`: the application's own cookie is learned."""

    interface = "wsgi"
    options = ("--sticky", f"cookie:{COOKIE}")

    def test_session(self) -> None:
        """A session is found by the application's cookie alone, until that is taken away."""
        for _ in range(6):
            jar = Jar()
            jar.ask(self.cluster, "POST", "/begin")
            self.assertEqual(list(jar.cookies), [COOKIE])
            for count in range(1, 4):
                answer = jar.ask(self.cluster, "GET", "/")
                self.assertEqual((answer.status, json.loads(answer.body)[1]), (200, count))
            self.assertEqual(jar.ask(self.cluster, "POST", "/logout").status, 200)
            self.assertEqual(jar.cookies, {})

    def test_thousand(self) -> None:
        """A response with a thousand cookies leaves, and the one that a browser keeps is known."""
        jar = Jar()
        begun = jar.ask(self.cluster, "POST", "/begin?many")
        self.assertEqual((begun.status, len(_inserted(begun, COOKIE))), (200, 1000))
        for _ in range(6):
            self.assertEqual(jar.ask(self.cluster, "GET", "/").status, 200)


class TwoClustersTests(SynchronousTestCase):
    """Two clusters on one host, and a browser with one jar."""

    def test_one_jar(self) -> None:
        """No cluster of two on one host loses the client to the other."""
        jar = Jar()
        clusters = [
            Cluster(f"{APP}:web", "--sticky", "auto", workers=2, probe="") for _ in range(2)
        ]
        with clusters[0], clusters[1]:
            for cluster in clusters:
                until(lambda cluster=cluster: _ready(cluster), 30, "all workers are ready")
            seen = [
                tuple(jar.ask(c, "POST", "/begin").header("x-worker") for c in clusters)
                for _ in range(6)
            ]
        self.assertEqual(len(set(seen)), 1, seen)


def _inserted(response: Response, name: str) -> list[str]:
    """The values of a cookie that a response sets."""
    values = [v for n, v in response.headers if n.lower() == "set-cookie"]
    return [value for value in values if value.startswith(f"{name}=")]
