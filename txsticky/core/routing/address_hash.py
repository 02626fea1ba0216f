"""
Rendezvous of addresses: a hash of 32-bit steps, so that the kernel can compute it as well (`bpf`).

The weight of a slot for an address is the finalizer of MurmurHash3 (Appleby, public domain) over
the address' word and a constant of the slot.  The finalizer is a bijection and no two slots share a
constant, so that no two slots ever weigh the same.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Final

from ..addresses import unmapped
from ..memo import entries

#: Everything is computed modulo 2**32.
WORD: Final = 0xFFFFFFFF
#: The finalizer's two factors, and the shifts before, between and behind them.
FACTORS: Final = (0x85EBCA6B, 0xC2B2AE35)
SHIFTS: Final = (16, 13, 16)
#: 2**32 divided by the golden ratio, an odd number: it spreads the slots' numbers.
_GOLDEN: Final = 0x9E3779B9
#: No text that is longer names an address: 45 characters and a zone (RFC 4007).
_LONGEST: Final = 80


def mixed(word: int) -> int:
    """
    Mix the bits of a word: the finalizer of MurmurHash3.

    :param word: 0 to 2**32 - 1; the result has the same range, and no two words the same result.
    """
    # Written out, for it is computed for each slot at each request.
    word ^= word >> 16
    word = word * 0x85EBCA6B & WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 & WORD
    return word ^ word >> 16


@functools.lru_cache(entries(4096, 0))
def constant(slot: int) -> int:
    """The constant of a slot, another one for each; slots count from 1."""
    return mixed(slot * _GOLDEN & WORD)


def address_word(key: bytes) -> int | None:
    """
    The word of 32 bits that stands for an address.

    It is an IPv4 address itself; the four words of an IPv6 address, mixed one after the other; an
    IPv4-mapped address is the IPv4 address that it stands for.  A zone does not count.

    :param key: the address as text.
    :returns: None if the text is no address.
    """
    return _read(key) if len(key) <= _LONGEST else None


@functools.lru_cache(entries(4096, _LONGEST))
def _read(key: bytes) -> int | None:
    try:
        address = unmapped(ipaddress.ip_address(key.decode("ascii")))
    except ValueError:
        return None
    number = int(address)
    # An IPv4 address has zeros there, and 0 mixed is 0: in the end its word is the address itself.
    word = number >> 96
    for shift in (64, 32, 0):
        word = mixed(word) ^ (number >> shift & WORD)
    return word


def heaviest(word: int, slots: Iterable[int]) -> int:
    """
    Choose a slot for an address by rendezvous (highest random weight).

    Only the addresses of a slot that is taken away go elsewhere, and a slot that is added takes
    only what is its own.

    :param word: of the address (`address_word`).
    :param slots: at least one, in any order.
    """
    return max(slots, key=lambda slot: mixed(word ^ constant(slot)))
