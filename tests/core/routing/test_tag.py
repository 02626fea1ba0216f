"""The signed worker tag."""

from __future__ import annotations

import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.tag import SECRET_LEAST, SECRET_MOST, Signer, check_machine, secret_of

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


class MachineTests(SynchronousTestCase):
    """The name of a machine in front of its tags."""

    def setUp(self) -> None:
        self.a, self.b = (Signer(b"0123456789abcdef", name) for name in ("a", "b"))

    @given(workers, idents)
    @settings(deadline=None)
    def test_round_trip(self, worker: int, ident: str) -> None:
        """A value begins with the name of its machine and a dot, and is read there."""
        signer = Signer(b"0123456789abcdef", "a-1")
        value = signer.mint(worker, ident)
        self.assertTrue(value.startswith(f"a-1.{ident}.{worker}."))
        self.assertEqual((signer.read(value), signer.read(value.encode())), (worker, worker))

    @given(workers, idents)
    @settings(deadline=None)
    def test_foreign_machine(self, worker: int, ident: str) -> None:
        """A value of another machine counts as no tag, though the secret is the same."""
        signers = [Signer(b"0123456789abcdef", name) for name in ("", "a", "b", "ab", "a-b")]
        for minting in signers:
            value = minting.mint(worker, ident)
            readers = [signer for signer in signers if signer.read(value) is not None]
            self.assertEqual(readers, [minting], value)

    def test_ident_like_a_machine(self) -> None:
        """An identifier that looks like a machine's name and a dot leads to no such machine."""
        value = SIGNER.mint(3, "a.x")
        self.assertEqual((SIGNER.read(value), self.a.read(value)), (3, None))
        self.assertEqual(SIGNER.machine_of(value), "")

    def test_renamed(self) -> None:
        """A value whose machine's name is exchanged or taken away counts as no tag anywhere."""
        value = self.a.mint(3, "x")
        for forged in (f"b{value[1:]}", value[2:], f"a.{value}"):
            for signer in (SIGNER, self.a, self.b):
                self.assertIsNone(signer.read(forged), forged)
                self.assertIsNone(signer.machine_of(forged), forged)

    def test_known(self) -> None:
        """Machines that share the secret know whose a value is; other machines do not."""
        value = self.a.mint(3, "x.y")
        self.assertEqual([s.machine_of(value) for s in (SIGNER, self.a, self.b)], ["a"] * 3)
        self.assertEqual(self.b.machine_of(value.encode()), "a")
        self.assertIsNone(Signer(b"fedcba9876543210", "b").machine_of(value))

    @given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
    @settings(deadline=None)
    def test_anything(self, value: bytes | str) -> None:
        """No value is an error."""
        self.assertEqual((self.a.read(value), self.a.machine_of(value)), (None, None))

    def test_vector(self) -> None:
        """The form with a machine never changes unseen."""
        value = "a.x.3.5_6S5Iiv2o"
        self.assertEqual((self.a.mint(3, "x"), self.a.read(value)), (value, 3))

    def test_names(self) -> None:
        """A name is short, and needs no escaping in a URL, a cookie or a balancer's file."""
        for name in ("a", "app-1", "A_9", "x" * 32):
            check_machine(name)
        for name in ("", "x" * 33, "a.b", "a b", "a/b", "ä", "a\n", "a;b", "~"):
            self.assertRaises(ValueError, check_machine, name)


class SecretTests(SynchronousTestCase):
    """The secret in a file."""

    def test_blanks(self) -> None:
        """Line ends and blanks around do not count: machines agree however it was copied."""
        secret = b"q8Xb0Yk3ZrT1mN5cV7eW9uJ2hG4fD6sA"
        for content in (secret, secret + b"\n", b"\n " + secret + b"\r\n\n"):
            self.assertEqual(secret_of(content), secret)

    def test_refused(self) -> None:
        """What is short, long or nearly all the same is no secret, and the reason is told."""
        for content, why in (
            (b"", "it has 0 bytes"),
            (bytes(range(SECRET_LEAST - 1)).replace(b"\n", b"x"), "31 bytes"),
            (bytes(range(256)) * (SECRET_MOST // 256) + b"!", "something else"),
            (bytes(64), "all the same"),
            (b"abcdefg" * 6, "all the same"),
        ):
            error = self.assertRaises(ValueError, secret_of, content)
            self.assertIn(why, str(error))
        secret_of(b"abcdefgh" * 4)
        secret_of(b"abcdefgh" * (SECRET_MOST // 8))
