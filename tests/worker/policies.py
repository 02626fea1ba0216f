"""A worker's request policy, for its tests."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.inside import Inside
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import Table
from txsticky.core.routing.verdict import FRONT_DESK, Keep, Verdict, place_of
from txsticky.worker.bindings import Bindings
from txsticky.worker.fast_path import FastPath
from txsticky.worker.policy import PolicySettings, RequestPolicy
from txsticky.worker.view import ClusterView

CLIENT = "192.0.2.7"
#: The header lines of a response that says nothing.
PLAIN = b"\r\nContent-Length: 2\r\n"


def head(target: str = "/", *headers: str, method: str = "GET") -> Head:
    """A request's head."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example", *headers, "", ""]
    parsed = parse_head("\r\n".join(lines).encode(), 65536)
    assert isinstance(parsed, Head)
    return parsed


class PolicyCase(SynchronousTestCase):
    """The policy of worker 2, in a cluster of three whose workers are ready."""

    options: dict[str, Any] = {}
    others = (1, 3)

    def setUp(self) -> None:
        config = Config(**self.options)
        self.pool = Pool()
        for id in sorted((2, *self.others)):
            self.pool.add(id, id)
            self.pool.set_ready(id)
        self.fast_path = FastPath(Inside(absolute=False))
        self.system = FakeSystem()
        self.view = ClusterView(
            id=2,
            slot=5,
            router=config.router(b"s" * 16),
            pool=self.pool,
            table=Table(100, 3600),
            changed=self.fast_path.clear,
        )
        self.bindings = Bindings(self.view, mock.Mock(), self.system.clock)
        self.peers = {FRONT_DESK, 1, 3}
        self.live: set[object] = {"this connection"}
        self.read_now = mock.Mock()
        self.done = mock.Mock()
        self.policy = RequestPolicy(
            self.view,
            self.bindings,
            self.fast_path,
            reaches=self.peers.__contains__,
            live=self.live,
            read_now=self.read_now,
            movements=mock.Mock(),
            request_done=self.done,
            settings=PolicySettings(balance=config.balance, debug_headers=config.debug_headers),
            system=self.system,
        )

    def tag(self, worker: int) -> str:
        """A value that names a worker."""
        return self.view.router.signer.mint(worker, "sid")

    def whose(self, target: str = "/", *headers: str, **options: Any) -> Verdict:
        """Where a request is served."""
        return self.policy.whose(head(target, *headers), CLIENT, **options)

    def answer(
        self,
        request: Head,
        how: How = How.NEW,
        fields: bytes = PLAIN,
        *,
        host: str = CLIENT,
        secure: bool = False,
        first: bool = True,
        status: int = 200,
    ) -> bytes:
        """What is added to the response to a request that is served here."""
        additions = self.policy.additions(request, host, secure, how, first)
        return additions(status, fields) if additions else b""

    def serve(self, target: str = "/", *headers: str, method: str = "GET", **options: Any) -> None:
        """Have a request that is not its connection's first come, and be answered here if kept."""
        request = head(target, *headers, method=method)
        verdict = self.policy.whose(request, CLIENT, **options)
        if isinstance(verdict, Keep):
            self.policy.additions(request, CLIENT, False, verdict.how, False)

    def bind(self, key: bytes, worker: int) -> None:
        """Have a worker bind a key."""
        self.view.table.bind(key, worker, self.system.clock())

    def missed(self, *owners: int) -> str:
        """Find a key that is not known and that leads to one of these workers."""
        for number in range(100):
            if place_of(self.whose(f"/?sid=unknown{number}"), 2) in owners:
                return f"unknown{number}"
        raise AssertionError(f"nothing leads to {owners}")
