"""
The kernel routes: where the first key is the client's address, nothing is read or given away.

With ``--accept workers`` the sockets of all slots share each address.  A program
(`core.routing.bpf`) has the kernel choose the socket as the workers' router would, before a byte
has come: so a TLS connection is where it belongs before it is decrypted, and a server may speak
first.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Final

from twisted.logger import Logger

from ..config import Config
from ..core.routing.bpf import Program, program
from ..core.routing.keys import KeyKind
from ..core.routing.router import Router
from ..system.sockets import reuseport

log = Logger()

#: `KernelRoutes.told` once the kernel chooses.
IN_KERNEL: Final = "in the kernel"
#: The sockets that share an address, with their slots, in the order in which they began to listen.
Group = Sequence[tuple[int, socket.socket]]


def obstacle(config: Config, router: Router) -> str | None:
    """
    Tell why the kernel cannot choose the workers, by what the operator wants.

    :param config: what the cluster is to be.
    :param router: decides in the workers.
    :returns: None if it can; an empty text if it is not to, for workers do not accept, or the first
        key is no address; else the reason, as the end of a sentence.
    """
    if config.accept != "workers" or router.chain[0].kind is not KeyKind.IP:
        return ""
    if config.proxy_protocol:
        return "the client's address stands in a PROXY header (--proxy-protocol)"
    if router.trusted:
        return "proxies may name the client's address (--forwarded-allow-ips)"
    if not router.in_words:
        return "the cluster goes on with the hash of version 0.1.0 until it is started anew"
    if not any(config.shares(listen) for listen in config.listen):
        return "no --listen is a TCP port that this program opens itself"
    return None


class KernelRoutes:
    """
    Keeps a program attached to each group of sockets, for the slots whose workers accept.

    :param obstacle: why there are to be none (`obstacle`).
    :ivar told: for the operator: `IN_KERNEL`, or that it is not there and why; empty if it is not
        to be, there is one socket only, or no worker has accepted yet.
    """

    def __init__(self, obstacle: str | None) -> None:
        self._obstacle = obstacle
        self._bare = False
        #: By the number of a `--listen`: the sockets' numbers by slot that were last tried, and
        #: what came of it.
        self._tried: dict[int, tuple[dict[int, int], str | None]] = {}
        self.told = ""

    def follow(self, groups: Mapping[int, Group], slots: set[int]) -> None:
        """
        Have the kernel choose among these slots from now on, by one call for each group.

        Without a slot all stays as it is: the primary accepts at every socket then.

        :param groups: by the number of their `--listen`.
        :param slots: those with a worker that accepts and is not suspect.
        """
        if self._obstacle is not None:
            self._stay_bare(groups)
            return
        for number, group in groups.items():
            numbers = {slot: at for at, (slot, _) in enumerate(group) if slot in slots}
            before, _ = self._tried.get(number, (None, None))
            # A socket that shares with none is no group, and there is nothing to choose.
            if numbers and numbers != before and len(group) > 1:
                self._tried[number] = numbers, _attach(group[0][1], numbers)
        outcomes = [outcome for _, outcome in self._tried.values()]
        if outcomes:
            self._tell(next((reason for reason in outcomes if reason is not None), None))

    def _stay_bare(self, groups: Mapping[int, Group]) -> None:
        """See to it once that no program is left of a primary that was executed before."""
        if not self._bare:
            self._bare = True
            for group in groups.values():
                reuseport.detach(group[0][1])
            if self._obstacle:
                self._tell(self._obstacle)

    def _tell(self, obstacle: str | None) -> None:
        """Say, and log if it is new, which way connections take."""
        before, self.told = self.told, f"not in the kernel: {obstacle}" if obstacle else IN_KERNEL
        if self.told == before:
            return
        if obstacle is None:
            log.info("The kernel itself routes connections to the workers, by address.")
        else:
            log.warn(
                "The kernel cannot route connections by address, for {why}; the workers do.",
                why=obstacle,
            )


def _attach(sock: socket.socket, numbers: Mapping[int, int]) -> str | None:
    """Have the kernel choose among these slots, or by itself; returns why it is by itself."""
    try:
        made: Program = program(numbers)
    except ValueError as error:
        why: str | None = str(error).rstrip(".")
    else:
        why = reuseport.attach(sock, made)
    if why is not None:
        reuseport.detach(sock)  # one for other slots may be in force
    return why
