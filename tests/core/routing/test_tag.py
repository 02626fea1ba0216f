"""The signed worker tag."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.tag import Signer

SIGNER = Signer(b"0123456789abcdef")
idents = st.text("abcXYZ019._~-", max_size=300)
workers = st.integers(0, 2**40)


class TagTests(SynchronousTestCase):
    """What is minted is read; nothing else is."""

    @given(workers, idents)
    @settings(deadline=None)
    def test_round_trip(self, worker: int, ident: str) -> None:
        """A minted value of any length leads to its worker, as bytes and as text."""
        value = SIGNER.mint(worker, ident)
        self.assertEqual((SIGNER.read(value), SIGNER.read(value.encode())), (worker, worker))

    def test_long(self) -> None:
        """Long values, which are not remembered, are read and checked like short ones."""
        value = SIGNER.mint(7, "a" * 60000)
        self.assertEqual([SIGNER.read(value), SIGNER.read(value)], [7, 7])
        self.assertIsNone(SIGNER.read("b" + value[1:]))

    def test_twice(self) -> None:
        """A value is read the same the second time, when it is remembered."""
        value = SIGNER.mint(7, "a")
        self.assertEqual([SIGNER.read(value), SIGNER.read(value)], [7, 7])

    @given(workers, idents)
    @settings(deadline=None)
    def test_readable_and_unreserved(self, worker: int, ident: str) -> None:
        """The identifier and the worker stay readable, and nothing needs escaping in a URL."""
        value = SIGNER.mint(worker, ident)
        self.assertTrue(value.startswith(f"{ident}.{worker}."))
        self.assertTrue(re.fullmatch(r"[A-Za-z0-9._~-]+", value))

    def test_length(self) -> None:
        """A tag is twelve characters and the worker's digits long."""
        self.assertEqual(len(SIGNER.mint(123, "ident")), len("ident") + 12 + 3)

    def test_deterministic(self) -> None:
        """The same identifier, worker and secret make the same value in every process."""
        self.assertEqual(
            Signer(b"0123456789abcdef").mint(3, "x"), Signer(b"0123456789abcdef").mint(3, "x")
        )

    def test_vectors(self) -> None:
        """Values that an earlier version minted are read: their form never changes unseen."""
        for value, worker in (
            ("x.3.FXRpfF1Im6", 3),
            (".0.Wy5tKjJrSY", 0),
            ("a~b-c_d.e.1099511627776.ASChKYRqQ7", 1 << 40),
        ):
            self.assertEqual(SIGNER.read(value), worker)
            self.assertEqual(SIGNER.mint(worker, value.rsplit(".", 2)[0]), value)

    @given(workers, idents, st.data())
    @settings(deadline=None)
    def test_forged(self, worker: int, ident: str, data: st.DataObject) -> None:
        """A value with one changed character counts as no tag."""
        value = SIGNER.mint(worker, ident)
        at = data.draw(st.integers(0, len(value) - 1))
        character = data.draw(st.characters(max_codepoint=300))
        assume(character != value[at])
        self.assertIsNone(SIGNER.read(value[:at] + character + value[at + 1 :]))

    @given(workers, idents)
    @settings(deadline=None, max_examples=30)
    def test_cut_or_prolonged(self, worker: int, ident: str) -> None:
        """A value that lost or gained characters at either end counts as no tag."""
        value = SIGNER.mint(worker, ident)
        for size in range(len(value)):
            self.assertIsNone(SIGNER.read(value[:size]))
            if size:
                self.assertIsNone(SIGNER.read(value[size:]))
        self.assertIsNone(SIGNER.read(value + "A"))
        self.assertIsNone(SIGNER.read("A" + value))

    @given(workers, idents, st.binary(min_size=16, max_size=100))
    @settings(deadline=None)
    def test_foreign_secret(self, worker: int, ident: str, secret: bytes) -> None:
        """A value minted with another secret counts as no tag."""
        assume(secret != b"0123456789abcdef")
        self.assertIsNone(SIGNER.read(Signer(secret).mint(worker, ident)))

    @given(workers, workers, idents)
    @settings(deadline=None)
    def test_swapped_worker(self, worker: int, other: int, ident: str) -> None:
        """The MAC of one worker does not serve for another."""
        assume(worker != other)
        mac = SIGNER.mint(worker, ident).rpartition(".")[2]
        self.assertIsNone(SIGNER.read(f"{ident}.{other}.{mac}"))

    @given(workers, idents, idents)
    @settings(deadline=None)
    def test_swapped_ident(self, worker: int, ident: str, other: str) -> None:
        """The MAC of one identifier does not serve for another."""
        assume(ident != other)
        mac = SIGNER.mint(worker, ident).rpartition(".")[2]
        self.assertIsNone(SIGNER.read(f"{other}.{worker}.{mac}"))

    @given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
    @settings(deadline=None)
    def test_anything(self, value: bytes | str) -> None:
        """No value is an error."""
        self.assertIsNone(SIGNER.read(value))

    def test_lone_surrogates(self) -> None:
        """Text that no encoding takes counts as no tag."""
        value = SIGNER.mint(1, "a")
        self.assertIsNone(SIGNER.read("\ud800" + value))

    def test_reserved_characters(self) -> None:
        """An identifier that would need escaping in a URL is refused."""
        for ident in ("a b", "a/b", "ä", "a\n", "a%20", "a;b"):
            self.assertRaises(ValueError, SIGNER.mint, 1, ident)

    def test_negative_worker(self) -> None:
        """A worker's id is not negative."""
        self.assertRaises(ValueError, SIGNER.mint, -1, "a")

    def test_short_secret(self) -> None:
        """A secret that can be guessed is refused."""
        self.assertRaises(ValueError, Signer, b"0123456789abcde")
