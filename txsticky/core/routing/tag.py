"""
The signed worker tag: an identifier that names its worker, so that no table has to.

A tagged value is ``IDENT.WORKER.MAC``: the application's own identifier, readable; the worker's
id in decimal; ten characters of base64url. It adds 12 characters and the worker's digits (13 to
15 in all, as a rule). With an IDENT of unreserved URL characters (RFC 3986, section 2.3) the
whole value is of them too, so it needs no escaping in a query, a path or a cookie.

The MAC is 60 bits of keyed BLAKE2b (RFC 7693) over everything before it. A client that guesses
one wins the choice of its worker, nothing else. The secret is drawn anew for each life of a
cluster, so that the tags of an earlier life count as no tags.
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


class Signer:
    """
    Mints and reads tagged values.

    :param secret: known to the processes of one cluster alone; 16 random bytes or more.
    :raises ValueError: the secret is shorter than that.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError(
                f"A secret of {len(secret)} bytes can be guessed; give 16 random bytes or more."
            )
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"txsticky tag").digest()
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
        return f"{signed}.{self._mac(signed.encode()).decode()}"

    def read(self, value: bytes | str) -> int | None:
        """
        Read the worker's id out of a value.

        :returns: None if the value has no tag, or none that this cluster minted just so.
        """
        if value[-_MAC_LENGTH - 1 : -_MAC_LENGTH] not in (b".", "."):
            return None
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        return self._cached(value) if len(value) <= _CACHED_LENGTH else self._verify(value)

    def _verify(self, value: bytes) -> int | None:
        signed = value[: -_MAC_LENGTH - 1]
        if not hmac.compare_digest(self._mac(signed), value[-_MAC_LENGTH:]):
            return None
        # Only `mint` makes a valid MAC, so what it covers has mint's shape.
        return int(signed.rpartition(b".")[2])

    def _mac(self, signed: bytes) -> bytes:
        digest = hashlib.blake2b(signed, digest_size=9, key=self._key).digest()
        return base64.urlsafe_b64encode(digest)[:_MAC_LENGTH]
