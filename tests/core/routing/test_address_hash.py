"""The hash of addresses: the same everywhere, even, and nothing moves that need not."""

from __future__ import annotations

import ipaddress
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.address_hash import WORD, address_word, constant, heaviest, mixed

words = st.integers(0, WORD)
slots = st.sets(st.integers(1, 200), min_size=1, max_size=12)


def undone(word: int) -> int:
    """Undo `mixed`: its factors' inverses, and its shifts, backwards."""
    word ^= word >> 16
    word = word * pow(0xC2B2AE35, -1, 2**32) & WORD
    word ^= word >> 13 ^ word >> 26
    word = word * pow(0x85EBCA6B, -1, 2**32) & WORD
    return word ^ word >> 16


def uneven(counts: Counter[int], among: int) -> float:
    """Pearson's statistic for equal shares, for each degree of freedom; chance alone gives 1."""
    share = counts.total() / among
    return sum((counts[slot] - share) ** 2 / share for slot in range(1, among + 1)) / (among - 1)


class MixedTests(SynchronousTestCase):
    """The finalizer."""

    def test_vectors(self) -> None:
        """The values are those of MurmurHash3's finalizer."""
        self.assertEqual([mixed(n) for n in (0, 1, 2)], [0, 0x514E28B7, 0x30F4C306])

    @given(words)
    @settings(deadline=None)
    def test_bijection(self, word: int) -> None:
        """Every word has a result of its own, so that no two slots weigh the same."""
        self.assertEqual(undone(mixed(word)), word)

    def test_avalanche(self) -> None:
        """Each bit that changes has half of the bits change, whichever it is."""
        for bit in range(32):
            changed = sum(
                (mixed(n * 0x01000193 & WORD) ^ mixed(n * 0x01000193 & WORD ^ 1 << bit)).bit_count()
                for n in range(500)
            )
            self.assertTrue(15 < changed / 500 < 17, (bit, changed / 500))

    def test_constants(self) -> None:
        """Each slot has a constant of its own."""
        self.assertEqual(len({constant(slot) for slot in range(1, 5000)}), 4999)


class AddressWordTests(SynchronousTestCase):
    """The word of an address."""

    @given(st.ip_addresses(v=4))
    @settings(deadline=None)
    def test_ipv4(self, address: ipaddress.IPv4Address) -> None:
        """An IPv4 address is its own word, mapped into IPv6 or not."""
        for text in (f"{address}", f"::ffff:{address}"):
            self.assertEqual(address_word(text.encode()), int(address))

    @given(st.ip_addresses(v=6))
    @settings(deadline=None)
    def test_ipv6(self, address: ipaddress.IPv6Address) -> None:
        """An IPv6 address has one word, however it is written."""
        if address.ipv4_mapped is None:
            word = address_word(str(address).encode())
            self.assertEqual(address_word(address.exploded.upper().encode()), word)

    def test_ipv6_every_part(self) -> None:
        """Each bit of an IPv6 address counts."""
        whole = 0x20010DB8 << 96
        found = {
            address_word(str(ipaddress.IPv6Address(whole ^ 1 << bit)).encode())
            for bit in range(128)
        }
        self.assertEqual(len(found), 128)

    def test_zone(self) -> None:
        """A zone does not count: the kernel's program does not see it."""
        self.assertEqual(address_word(b"fe80::1%eth0"), address_word(b"fe80::1"))

    def test_longest(self) -> None:
        """An address has 80 characters at the most, its zone included."""
        self.assertEqual(address_word(b"::1%" + b"x" * 76), address_word(b"::1"))
        self.assertIsNone(address_word(b"::1%" + b"x" * 77))

    def test_no_address(self) -> None:
        """What is no address has no word."""
        for key in (b"", b"localhost", b"1.2.3", b"\xff\xfe", b"1" * 100, b"::1%" + b"x" * 99):
            self.assertIsNone(address_word(key), key)


class HeaviestTests(SynchronousTestCase):
    """The choice of a slot."""

    @given(words, slots)
    @settings(deadline=None)
    def test_order(self, word: int, slots: set[int]) -> None:
        """The slots' order does not matter."""
        up, down = sorted(slots), sorted(slots, reverse=True)
        self.assertEqual(heaviest(word, up), heaviest(word, down))

    @given(words, slots)
    @settings(deadline=None)
    def test_a_slot_leaves(self, word: int, slots: set[int]) -> None:
        """When a slot is taken away, only its own addresses go elsewhere."""
        before = heaviest(word, slots)
        for slot in slots - {before}:
            self.assertEqual(heaviest(word, slots - {slot}), before)

    @given(words, slots, st.integers(201, 300))
    @settings(deadline=None)
    def test_a_slot_comes(self, word: int, slots: set[int], new: int) -> None:
        """When a slot is added, addresses move to it or not at all."""
        self.assertIn(heaviest(word, slots | {new}), (heaviest(word, slots), new))

    def test_even(self) -> None:
        """Addresses of one network, one of a network each, and IPv6 ones spread evenly."""
        clients = {
            "10.0.0.0/18": range(10 << 24, (10 << 24) + 2**14),
            "127.0.0.0/26": range((127 << 24) + 1, (127 << 24) + 65),
            "a host in each network": range(1, 2**32, 2**20),
            "2001:db8::/114": [
                address_word(str(ipaddress.IPv6Address((0x20010DB8 << 96) + n)).encode()) or 0
                for n in range(2**13)
            ],
        }
        for name, words in clients.items():
            for among in (2, 3, 4, 8):
                slots = range(1, among + 1)
                found = Counter(heaviest(word, slots) for word in words)
                # Chance exceeds this once in a hundred thousand, at one degree of freedom the most.
                self.assertLess(uneven(found, among), 20, (name, among, found))

    def test_even_after_one_left(self) -> None:
        """The addresses of a slot that is taken away spread evenly over those that stay."""
        of_two = [n for n in range(2**14) if heaviest(n, (1, 2, 3, 4)) == 2]
        found = Counter(heaviest(word, (1, 3, 4)) for word in of_two)
        self.assertLess(max(found.values()) - min(found.values()), len(of_two) / 3 * 0.2, found)

    def test_stable(self) -> None:
        """The choice is the same in every release, so that an upgrade moves no client."""
        chosen = [heaviest((192 << 24) + (2 << 8) + n, (1, 2, 3, 4)) for n in range(10)]
        self.assertEqual(chosen, [2, 4, 1, 3, 3, 3, 3, 3, 2, 4])
