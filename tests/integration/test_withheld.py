"""Responses behind a binding that the primary, which is stopped, does not confirm."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.bind_app import PIECE, PIECES
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import request
from tests.integration.secure import SecureCluster

MOST = 4 << 20


class WithheldTests(SynchronousTestCase):
    """No more is made than a buffer holds; once the primary goes on, all of it comes."""

    cluster: type[Cluster] = Cluster

    def check(self, app: str) -> None:
        """Stop the primary, ask for much, and go on."""
        made = Path(self.mktemp())
        made.touch()
        target = f"tests.integration.bind_app:{app}"
        with (
            self.cluster(
                target,
                "--interface",
                app,
                workers=1,
                probe="/",
                environment={"MADE": str(made.absolute())},
            ) as cluster,
            cluster.connect() as connection,
        ):
            self.assertEqual(connection.ask(request("GET", "/")).status, 200)
            cluster.signal(signal.SIGSTOP)
            try:
                connection.send(request("GET", "/much"))
                seen: list[int] = []

                def steady() -> bool:
                    seen.append(made.stat().st_size)
                    return len(set(seen[-20:])) == 1 < len(seen) - 19 and seen[-1] > 0

                until(steady, 30)
            finally:
                cluster.signal(signal.SIGCONT)
            self.assertLess(seen[-1] * len(PIECE), MOST)
            answer = connection.response()
            self.assertEqual((answer.status, len(answer.body)), (200, PIECES * len(PIECE)))

    def test_web(self) -> None:
        """A producer that is asked for each piece is withheld in bounds."""
        self.check("web")

    def test_wsgi(self) -> None:
        """An application in a thread is withheld in bounds."""
        self.check("wsgi")

    def test_asgi(self) -> None:
        """An application that awaits each piece's leaving is withheld in bounds."""
        self.check("asgi")


class SecureWithheldTests(WithheldTests):
    """Withheld responses over TLS."""

    cluster = SecureCluster
