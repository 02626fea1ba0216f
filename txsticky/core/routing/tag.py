"""
The signed worker tag: an identifier that names its worker, so that no table has to.

A tagged value is ``IDENT.WORKER.MAC``: the application's own identifier, readable; the worker's
id in decimal; ten characters of base64url. It adds 12 characters and the worker's digits (13 to
15 in all, as a rule). With an IDENT of unreserved URL characters (RFC 3986, section 2.3) the
whole value is of them too, so it needs no escaping in a query, a path or a cookie.

Of several machines each has a name, which stands in front, ``MACHINE.IDENT.WORKER.MAC``: a balancer
routes by this prefix without knowing the secret.

The MAC is 60 bits of keyed BLAKE2b (RFC 7693) over everything before it. A client that guesses
one wins the choice of its worker, nothing else. If the secret is drawn anew for each life of a
cluster, the tags of an earlier life count as no tags.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import re
from typing import Final

from ..memo import entries

_MAC_LENGTH: Final = 10
# A longer value is verified each time.
_CACHED_LENGTH: Final = 256
_CACHED: Final = entries(16384, _CACHED_LENGTH)
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
#: The name of a machine: it has no dot, so that the first one ends it.
_MACHINE: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")

#: Bytes of a secret in a file: 32 are 16 random ones in hexadecimal; a key has no 4096.
SECRET_LEAST: Final = 32
SECRET_MOST: Final = 4096
#: A file of zeros is left behind where a disk is full; 32 random hexadecimal digits have 14.
_DIFFERENT: Final = 8


def check_machine(name: str) -> None:
    """
    Check the name of a machine.

    :raises ValueError: it cannot stand in front of a tag.
    """
    if not _MACHINE.fullmatch(name):
        raise ValueError("1 to 32 ASCII letters, digits, - and _")


def secret_of(content: bytes) -> bytes:
    """
    Read the secret out of the content of a file: all of it, without blanks and line ends around.

    :raises ValueError: it is none, says the message.
    """
    secret = content.strip()
    if len(secret) < SECRET_LEAST:
        raise ValueError(f"it has {len(secret)} bytes, and a secret has {SECRET_LEAST} or more")
    if len(secret) > SECRET_MOST:
        raise ValueError(f"it has more than {SECRET_MOST} bytes, so it is something else")
    if len(set(secret)) < _DIFFERENT:
        raise ValueError("its bytes are nearly all the same, so it can be guessed")
    return secret


class Signer:
    """
    Mints and reads tagged values.

    :param secret: known to the processes of one cluster alone, or of those that it spans several
        machines with; 16 random bytes or more.
    :param machine: the name of this machine; empty if it has none.
    :raises ValueError: the secret is shorter than that.
    """

    def __init__(self, secret: bytes, machine: str = "") -> None:
        if len(secret) < 16:
            raise ValueError(
                f"A secret of {len(secret)} bytes can be guessed; give 16 random bytes or more."
            )
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"txsticky tag").digest()
        self._machine = machine.encode()
        self._prefix = f"{machine}." if machine else ""
        self._start = self._prefix.encode()
        self._cached = functools.lru_cache(maxsize=_CACHED)(self._verify)

    def mint(self, worker_id: int, ident: str) -> str:
        """
        Tag an identifier.

        :param worker_id: the worker that the value is to lead to.
        :param ident: an identifier of unreserved URL characters: letters, digits, ``-``, ``.``,
            ``_``, ``~``.
        :raises ValueError: `ident` has other characters, or `worker_id` is negative.
        """
        if not _UNRESERVED.fullmatch(ident):
            raise ValueError(
                f"{ident!r} cannot be tagged: use only letters, digits, '-', '.', '_' and '~'."
            )
        if worker_id < 0:
            raise ValueError(f"{worker_id} is no worker's id: ids count from 0.")
        signed = f"{ident}.{worker_id:d}"
        mac = self._mac(self._machine, signed.encode()).decode()
        return f"{self._prefix}{signed}.{mac}"

    def read(self, value: bytes | str) -> int | None:
        """
        Read the worker's id out of a value.

        :returns: None if the value has no tag, or none that this cluster minted just so.
        """
        if value[-_MAC_LENGTH - 1 : -_MAC_LENGTH] not in (b".", "."):
            return None
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        if not value.startswith(self._start):
            return None
        return self._cached(value) if len(value) <= _CACHED_LENGTH else self._verify(value)

    def machine_of(self, value: bytes | str) -> str | None:
        """
        Read the name of the machine that minted a value with the same secret.

        :returns: empty for one without a name; None if the value has no such tag.
        """
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        name = value.partition(b".")[0]
        for machine in (b"", name):
            if self._made(value, machine):
                return machine.decode()
        return None

    def _verify(self, value: bytes) -> int | None:
        if not self._made(value, self._machine):
            return None
        # Only `mint` makes a valid MAC, so what it covers has mint's shape.
        return int(value[: -_MAC_LENGTH - 1].rpartition(b".")[2])

    def _made(self, value: bytes, machine: bytes) -> bool:
        """Tell whether a value, which begins with the name of a machine, was minted there."""
        signed = value[len(machine) + 1 if machine else 0 : -_MAC_LENGTH - 1]
        return hmac.compare_digest(self._mac(machine, signed), value[-_MAC_LENGTH:])

    def _mac(self, machine: bytes, signed: bytes) -> bytes:
        """Sign; what a machine without a name signs has no slash."""
        if machine:
            signed = b"%b/%b" % (machine, signed)
        digest = hashlib.blake2b(signed, digest_size=9, key=self._key).digest()
        return base64.urlsafe_b64encode(digest)[:_MAC_LENGTH]
