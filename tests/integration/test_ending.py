"""How the application ends: all the time that --graceful-timeout gives is its own."""

from __future__ import annotations

import os
import signal
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request

APPS = "tests.integration.span_apps"
ASGI = (f"{APPS}:asgi", "--interface", "asgi")
WSGI = (f"{APPS}:wsgi", "--interface", "wsgi")
WEB = (f"{APPS}:web", "--factory")


class EndingCase(SynchronousTestCase):
    """What these tests share."""

    def cluster(
        self, app: tuple[str, ...], graceful: float, *options: str, **span: float
    ) -> Cluster:
        """A cluster of one that serves; it is ended with the test."""
        environment = {f"SPAN_{name.upper()}": str(value) for name, value in span.items()}
        options = ("--graceful-timeout", str(graceful), *options)
        return self.enterContext(
            Cluster(*app, *options, workers=1, probe="/", environment=environment)
        )

    def asking(self, cluster: Cluster, target: str) -> Connection:
        """A connection whose request a worker serves."""
        connection = cluster.connect()
        self.addCleanup(connection.close)
        connection.send(request("GET", target))
        time.sleep(0.5)
        return connection

    def told(self, cluster: Cluster, number: int = signal.SIGTERM) -> str:
        """Tell the cluster to stop; all that it has said until it ended, in order, with 0."""
        cluster.signal(number)
        self.assertEqual(cluster.wait(40), 0)
        return cluster.log()

    def by_itself(self, log: str) -> None:
        """Assert that all workers have ended by themselves, and that the log says so."""
        self.assertIn("has left: it exited with code 0.", log)
        self.assertNotIn("signal 9", log)
        self.assertNotIn("killed", log)


class Time(EndingCase):
    """TERM and HUP: the whole of the time."""

    def test_lifespan(self) -> None:
        """A lifespan of several seconds comes to its end, and what it has begun is cancelled."""
        log = self.told(self.cluster(ASGI, 12, shut=7))
        self.by_itself(log)
        self.assertIn("SHUT is over", log)
        self.assertIn("TASK is over", log)

    def test_lifespan_of_a_reload(self) -> None:
        """The lifespan of a worker that is replaced comes to its end."""
        cluster = self.cluster(ASGI, 12, shut=6)
        cluster.signal(signal.SIGHUP)
        until(lambda: "has left" in cluster.log(), 30, "the old worker has left")
        self.assertIn("SHUT is over", cluster.log())
        self.by_itself(cluster.log())

    def test_blocking_lifespan(self) -> None:
        """A lifespan may even block its event loop for longer than --worker-timeout."""
        log = self.told(self.cluster(ASGI, 12, "--worker-timeout", "2", shut=5, blocks=1))
        self.by_itself(log)
        self.assertIn("SHUT is over", log)

    def test_trigger(self) -> None:
        """What the reactor does at its end is waited for."""
        log = self.told(self.cluster(WEB, 12, shut=6))
        self.by_itself(log)
        self.assertIn("SHUT is over", log)

    def test_atexit_and_threads(self) -> None:
        """Handlers of atexit, and threads that are no daemons, come to their end."""
        for app in (ASGI, WSGI):
            cluster = self.cluster(app, 12, atexit=3, thread=4)
            cluster.get("/")
            log = self.told(cluster)
            self.by_itself(log)
            self.assertIn("ATEXIT is over", log)
            self.assertIn("THREAD is over", log)

    def test_request_of_wsgi(self) -> None:
        """A thread that is in the application is waited for, though its client has gone."""
        cluster = self.cluster(WSGI, 12)
        self.asking(cluster, "/?seconds=5").close()
        before = cluster.log().count("the request is over")
        log = self.told(cluster)
        self.by_itself(log)
        self.assertEqual(log.count("the request is over"), before + 1)

    def test_endless_responses(self) -> None:
        """A stream without an end does not cost the application its own shut-down."""
        cluster = self.cluster(ASGI, 3, shut=0.1)
        self.asking(cluster, "/stream")
        log = self.told(cluster)
        self.by_itself(log)
        self.assertLess(log.index("the stream is over"), log.index("SHUT is over"))

    def test_endless_thread(self) -> None:
        """A thread that hangs does not cost atexit its time."""
        cluster = self.cluster(WSGI, 3, atexit=0.2)
        self.asking(cluster, "/?seconds=600")
        log = self.told(cluster)
        self.by_itself(log)
        self.assertIn("ATEXIT is over", log)


class Over(EndingCase):
    """When the time is over."""

    def test_lifespan(self) -> None:
        """A lifespan that goes on is waited for no longer, and that is told."""
        log = self.told(self.cluster(ASGI, 2, shut=600, atexit=0))
        self.assertIn("The application did not stop in its time", log)
        self.assertIn("ATEXIT is over", log)
        self.by_itself(log)

    def test_blocked(self) -> None:
        """What nothing else can end is killed, and that is told with the reason."""
        for app, span in ((ASGI, {"shut": 600, "blocks": 1}), (WSGI, {"atexit": 600})):
            log = self.told(self.cluster(app, 2, **span))
            self.assertIn("did not end within the graceful timeout of 2 s and was killed", log)
            self.assertNotIn("exited with code", log)

    def test_no_time(self) -> None:
        """With no time for requests the application's own shut-down runs nevertheless."""
        cluster = self.cluster(ASGI, 0, atexit=0)
        self.asking(cluster, "/stream")
        self.assertIn("ATEXIT is over", self.told(cluster))


class Quick(EndingCase):
    """INT and QUIT."""

    def test_ctrl_c(self) -> None:
        """INT for all processes of the terminal waits for no request, but for the application."""
        for app in (ASGI, WEB):
            cluster = self.cluster(app, 600, shut=3, atexit=1)
            self.asking(cluster, "/stream" if app is ASGI else "/wait")
            os.killpg(cluster.pid, signal.SIGINT)
            self.assertEqual(cluster.wait(40), 0)
            log = cluster.log()
            self.by_itself(log)
            self.assertLess(log.index("SHUT is over"), log.index("ATEXIT is over"))

    def test_quit(self) -> None:
        """QUIT waits for no request, but for the application; of WSGI for no thread."""
        cluster = self.cluster(WSGI, 600, atexit=1)
        self.asking(cluster, "/?seconds=600")
        os.killpg(cluster.pid, signal.SIGQUIT)
        self.assertEqual(cluster.wait(40), 0)
        self.assertIn("ATEXIT is over", cluster.log())
        self.by_itself(cluster.log())

    def test_bound(self) -> None:
        """The end of an application in a quick stop takes no longer than the graceful timeout."""
        log = self.told(self.cluster(ASGI, 2, shut=600, blocks=1), signal.SIGINT)
        self.assertIn("did not end within the graceful timeout of 2 s and was killed", log)

    def test_second(self) -> None:
        """A second INT kills."""
        cluster = self.cluster(ASGI, 600, shut=600)
        cluster.signal(signal.SIGINT)
        time.sleep(1)
        self.assertIs(cluster.process.poll(), None)
        log = self.told(cluster, signal.SIGINT)
        self.assertIn("had not ended when the stop was hurried once more and was killed", log)

    def test_term_meanwhile(self) -> None:
        """TERM after INT changes nothing: the application comes to its end."""
        cluster = self.cluster(ASGI, 600, shut=4)
        cluster.signal(signal.SIGINT)
        time.sleep(1)
        log = self.told(cluster, signal.SIGTERM)
        self.by_itself(log)
        self.assertIn("SHUT is over", log)

    def test_after_term(self) -> None:
        """INT after TERM ends the wait for requests, and only that."""
        cluster = self.cluster(ASGI, 600, shut=3)
        self.asking(cluster, "/stream")
        cluster.signal(signal.SIGTERM)
        time.sleep(1)
        log = self.told(cluster, signal.SIGINT)
        self.by_itself(log)
        self.assertIn("SHUT is over", log)


class Unasked(EndingCase):
    """Workers that end by themselves."""

    def test_reactor(self) -> None:
        """A worker whose application stops the reactor is replaced, and not cut short."""
        cluster = self.cluster(WEB, 12, atexit=5)
        before = cluster.get("/").body
        cluster.get("/stop")
        until(lambda: "stops serving unasked" in cluster.log(), 20, "that is told")
        until(lambda: cluster.get("/").body != before, 20, "another one serves")
        until(lambda: "has left: it exited with code 0" in cluster.log(), 20, "it has left")
        self.assertIn("ATEXIT is over", cluster.log())
