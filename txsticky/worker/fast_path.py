"""The fast path: requests that are known to be served here, by their heads to the letter."""

from __future__ import annotations

from ..core.how import How
from ..core.http.head import Head
from ..core.http.inside import Inside
from ..core.http.response import Additions
from ..core.http.steps import MEMORABLE, Known, known
from ..core.memo import entries
from ..core.routing.verdict import Give, Verdict

#: How many requests are remembered.
MEMORY = entries(1024, MEMORABLE)
#: An address with a zone has no more characters (RFC 4007).
_LONGEST_HOST = 80
_HOSTS = entries(4096, 4 * _LONGEST_HOST)


class FastPath:
    """
    A cache of decisions: a client on a kept-alive connection repeats its requests.

    :param inside: what of a head the application's protocols do not understand.
    :ivar known: the requests that are served here, by their heads.
    :ivar given: those of other workers. Both dictionaries stay the same objects.
    :ivar hosts: where clients' addresses lead to, where no key but them is looked at, and as long
        as no key is bound.
    """

    def __init__(self, inside: Inside) -> None:
        self.known: dict[bytes, Known] = {}
        self.given: dict[bytes, Give] = {}
        self.hosts: dict[str, Verdict] = {}
        self._inside = inside
        self._seen: set[int] = set()

    def comes_again(self, head: Head) -> bool:
        """Whether a request with this very head came before; if not, that is taken note of."""
        seen, mark = self._seen, hash(head.raw)
        if mark in seen:
            return True
        if len(seen) >= MEMORY:
            seen.clear()
        seen.add(mark)
        return False

    def remember_given(self, head: Head, verdict: Give) -> None:
        """
        Give requests with this very head away until the cluster changes.

        :param head: the request's; one that is too long is not remembered.
        :param verdict: where to, and why.
        """
        if len(head.raw) <= MEMORABLE:
            if len(self.given) >= MEMORY:
                self.given.clear()
            self.given[head.raw] = verdict

    def remember_host(self, host: str, verdict: Verdict) -> None:
        """Have an address lead to the same place until the cluster changes."""
        if len(host) <= _LONGEST_HOST:
            if len(self.hosts) >= _HOSTS:
                self.hosts.clear()
            self.hosts[host] = verdict

    def remember(self, head: Head, how: How, additions: Additions | None) -> None:
        """
        Serve requests with this very head here until the cluster changes.

        :param head: the request's; one that is too long is not remembered.
        :param how: why such requests are served here.
        :param additions: what is to be done with their responses.
        """
        if len(head.raw) <= MEMORABLE:
            memo = known(head, how, self._inside, additions)
            if memo is not None:
                if len(self.known) >= MEMORY:
                    self.known.clear()
                self.known[head.raw] = memo

    def clear(self) -> None:
        """Forget all: decisions are to be made anew."""
        self.known.clear()
        self.given.clear()
        self.hosts.clear()
