"""The one decision: which worker a request, or a connection, belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from ..how import How
from .address_hash import address_word
from .balance import Balancer, Chance, rendezvous, rendezvous_of_address
from .forwarded import Trusted, client_address
from .keys import Chain, FoundKey, KeyKind, found, needs_head
from .pool import Member, Pool
from .table import Table
from .tag import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..http.head import Head


@attrs.define(unsafe_hash=True)
class Route:
    """
    The worker that a request belongs to. It is not frozen, as it is made for every connection.

    :param worker: the worker's id.
    :param how: why.
    """

    worker: int
    how: How


@attrs.frozen
class Refusal:
    """
    No worker can serve a request.

    :param reason: a sentence for the client.
    """

    reason: str


NO_WORKER: Final = Refusal("No worker is ready to serve this request.")


@attrs.define
class Router:
    """
    Decides by its arguments alone, and changes nothing but the balancer's turn.

    :param chain: where keys stand.
    :param signer: reads the tags.
    :param balancer: chooses where nothing pins.
    :param trusted: the peers that may name the client's address.
    :param in_words: whether an address goes by the hash that the kernel can compute as well; in a
        cluster that version 0.1.0 began, it goes by its text, as any key does.
    :ivar by_address: whether some key is the client's address.
    """

    chain: Chain
    signer: Signer
    balancer: Balancer
    trusted: Trusted
    in_words: bool = True
    by_address: bool = attrs.field(init=False)

    @by_address.default
    def _has_address(self) -> bool:
        return any(source.kind is KeyKind.IP for source in self.chain)

    @property
    def needs_head(self) -> bool:
        """Whether a request's head can matter: for a key, or for X-Forwarded-For."""
        return needs_head(self.chain) or (self.by_address and bool(self.trusted))

    def decide(
        self,
        head: Head | None,
        peer_host: str,
        pool: Pool,
        table: Table,
        now: float,
        chance: Chance,
    ) -> Route | Refusal:
        """
        Decide. A caller that carries the choice out reserves it in the pool (`Pool.reserve`).

        The first that answers: a tag in any key, the table for any key, a hashed key by
        rendezvous, the first key by rendezvous (so that the requests of one client agree even when
        the key is bound to no worker), the balancer.

        :param head: None if it cannot be read (TLS): only addresses pin then.
        :param peer_host: the address of the connection's other end; empty for a UNIX socket.
        :param now: seconds of the table's clock.
        :param chance: for the balancer.
        """
        client = client_address(head, peer_host, self.trusted) if self.by_address else ""
        keys = []
        for key in found(self.chain, head, client):
            worker = self.signer.read(key.value)
            if worker is not None and pool.reachable(worker):
                return Route(worker, How.TAG)
            keys.append(key)
        for key in keys:
            worker = table.find(key.value, now)
            if worker is not None and pool.reachable(worker):
                return Route(worker, How.HIT)
        candidates = pool.candidates()
        if not candidates:
            return NO_WORKER
        for key in keys:
            if key.source.hashed:
                return Route(self._hashed(key, candidates).id, How.HASH)
        if keys:
            return Route(
                rendezvous(self._told_apart(keys[0], head, peer_host), candidates).id, How.MISS
            )
        return Route(self.balancer.choose(candidates, chance).id, How.NEW)

    def bound(self, head: Head | None, peer_host: str, table: Table, now: float) -> int | None:
        """The worker that some key of a request is bound to, whether it can be reached or not."""
        client = client_address(head, peer_host, self.trusted) if self.by_address else ""
        for key in found(self.chain, head, client):
            worker = table.find(key.value, now)
            if worker is not None:
                return worker
        return None

    def _hashed(self, key: FoundKey, members: Sequence[Member]) -> Member:
        """Choose by rendezvous."""
        if self.in_words and key.source.kind is KeyKind.IP:
            word = address_word(key.value)
            if word is not None:
                return rendezvous_of_address(word, members)
        return rendezvous(key.value, members)

    def _told_apart(self, key: FoundKey, head: Head | None, peer_host: str) -> bytes:
        """
        Tell what an unknown key is hashed by.

        An inserted cookie is the same for all clients of one minute: when its worker has gone, they
        are not all to go to one other.
        """
        if key.source.kind is not KeyKind.INSERT or head is None:
            return key.value
        client = client_address(head, peer_host, self.trusted)
        program = head.header(b"user-agent") or b""
        return b"%b %b %b" % (key.value, client.encode(), program)
