"""What a balancer in front of several machines has to know."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from ...errors import ConfigError
from ..http.hosts import is_name
from ..option import Flag, Number, Text, option
from ..routing.keys import SHARED
from ..routing.tag import check_machine

#: A port, or an address or name and a port: ``8080``, ``10.0.0.1:8080``, ``[fd00::1]:8080``.
_PLACE: Final = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):)?([0-9]{1,5})")
#: Nothing that a configuration file would have to quote.
_PATH: Final = re.compile(r"[A-Za-z0-9_./@:+,~-]+")
#: nginx makes a variable of the name.
_COOKIE: Final = re.compile(r"[A-Za-z0-9_]+")


def _place(text: str) -> tuple[str, int]:
    """
    Read an address and a port.

    :returns: the address, empty if there is none, and the port.
    :raises ValueError: it is no such text.
    """
    found = _PLACE.fullmatch(text)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise ValueError("a port, or address:port, as 10.0.0.1:8080 or [fd00::1]:8080")
    return found[1] or "", int(found[2])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _path(text: str) -> None:
    if not _PATH.fullmatch(text):
        raise ValueError("a path of ASCII letters, digits and . / _ - @ : + , ~")


def _cookie(text: str) -> None:
    if not _COOKIE.fullmatch(text):
        raise ValueError("ASCII letters, digits and _")


def _name(text: str) -> None:
    if not is_name(text):
        raise ValueError("a host's name")


@attrs.frozen
class Machine:
    """
    A machine with a cluster.

    :param name: its ``--machine``.
    :param host: its address or name; one of IPv6 in brackets.
    :param port: where the cluster listens.
    """

    name: str
    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Machine:
        """
        Read ``NAME=ADDRESS:PORT``.

        :raises ConfigError: it is something else.
        """
        name, _, place = text.partition("=")
        try:
            check_machine(name)
            host, port = _place(place)
            if not host:
                raise ValueError("it names no address")
        except ValueError as error:
            hint = f"write NAME=ADDRESS:PORT, as a=10.0.0.1:8080 ({error})"
            raise ConfigError(option="A machine", value=text, hint=hint) from None
        return cls(name, host, port)

    @property
    def place(self) -> str:
        """Address and port."""
        return f"{self.host}:{self.port}"


@attrs.frozen(kw_only=True)
class BalancerSettings:
    """
    The settings of a balancer.

    :param machines: those that it chooses from, one at least.
    :raises ConfigError: a value cannot be; the sentence names the option.
    """

    machines: tuple[Machine, ...]
    bind: str | None = option(
        None,
        Text(_place),
        help="Where the balancer listens: PORT or ADDRESS:PORT",
        shown="80, or 443 with --tls-cert",
    )
    tls_cert: str | None = option(
        None,
        Text(_path),
        help="PEM file of the certificate with which the balancer ends TLS; HAProxy wants its key"
        " in it, or in FILE.key",
    )
    tls_key: str | None = option(
        None, Text(_path), help="PEM file of its private key, for nginx alone"
    )
    machines_tls: str | None = option(
        None, Text(_name), help="The machines speak TLS, with a certificate of this name"
    )
    machines_ca: str | None = option(
        None, Text(_path), help="PEM file of the authority that has signed it"
    )
    proxy_protocol: bool = option(
        False,
        Flag(),
        help="Tell the client's address by PROXY, instead of X-Forwarded-For (HAProxy alone)",
    )
    status_port: int = option(
        9090,
        Number(1, 65535, whole=True),
        help="Port of each machine's --status, where HAProxy asks for /readyz",
    )
    cookie: str = option(SHARED, Text(_cookie), help="Name of the cookie that the machines insert")

    def __attrs_post_init__(self) -> None:
        names = [machine.name for machine in self.machines]
        for name in names:
            if names.count(name) > 1:
                hint = "two machines have this name, and would get each other's clients"
                raise ConfigError(option="A machine", value=name, hint=hint)
        if (self.machines_tls is None) != (self.machines_ca is None):
            hint = "it goes with --machines-ca; name both, or none of them"
            raise ConfigError(option="--machines-tls", value=self.machines_tls, hint=hint)

    @property
    def listen(self) -> str:
        """Where the balancer listens, as `_place` reads it."""
        return self.bind or ("80" if self.tls_cert is None else "443")

    def command(self, machine: Machine) -> str:
        """
        Tell how the cluster on a machine is started.

        The address of the balancer is not known here: THIS-HOST stands for it.
        """
        address = _is_address(machine.host)
        words = [
            "txsticky",
            f"-l {machine.place if address else machine.port}",
            f"--machine {machine.name} --secret-file /etc/txsticky.secret --lame-duck 10",
            f"--status {machine.host}:{self.status_port}"
            if address
            else f"--status tcp:{self.status_port}:interface=0.0.0.0",
            "--forwarded-allow-ips THIS-HOST",
        ]
        if self.proxy_protocol:
            words.append("--proxy-protocol")
        if self.machines_tls is not None:
            words.append("--tls-cert CERT --tls-key KEY")
        if self.cookie != SHARED:
            words.append(f"--sticky sid,header:Mcp-Session-Id,insert:{self.cookie}")
        return " ".join([*words, "app:app"])
