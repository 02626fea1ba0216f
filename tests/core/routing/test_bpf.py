"""The program that chooses a socket by the client's address."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.routing.interpreter import Machine, packet
from txsticky.core.routing import bpf
from txsticky.core.routing.address_hash import address_word, constant, heaviest, mixed

#: The sockets' numbers by slot: an order of the group that is not that of the slots.
sockets = st.dictionaries(st.integers(1, 200), st.integers(0, 999), min_size=1, max_size=12)
#: Where the conditions of a program end, and those of an address too.
ENDS = ["0.0.0.0", "0.0.0.4", "0.0.0.6", "255.255.255.255", "::", "::1", "4::", "6::", "ffff::"]
#: IPv4-mapped addresses, and their neighbours.
MAPPED = ["::ffff:0:0", "::ffff:1.2.3.4", "::fffe:1.2.3.4", "::1:ffff:0:1", "1::ffff:0:1"]


class ProgramTests(SynchronousTestCase):
    """What a program answers."""

    @given(st.ip_addresses() | st.sampled_from(ENDS), sockets)
    @settings(deadline=None)
    def test_agrees(
        self, source: ipaddress.IPv4Address | ipaddress.IPv6Address | str, sockets: dict[int, int]
    ) -> None:
        """The program names the socket of the slot that the hash chooses, for every address."""
        word = address_word(str(source).encode())
        assert word is not None
        wanted = sockets[heaviest(word, sockets)]
        self.assertEqual(Machine(packet(str(source))).run(bpf.program(sockets)), wanted)

    def test_mapped(self) -> None:
        """An IPv4-mapped address counts as the IPv4 address, and its neighbours do not."""
        sockets = {slot: slot for slot in range(1, 50)}
        program = bpf.program(sockets)
        for source in MAPPED:
            word = address_word(source.encode())
            assert word is not None
            self.assertEqual(Machine(packet(source)).run(program), heaviest(word, sockets), source)
        ipv4, mapped = Machine(packet("1.2.3.4")), Machine(packet("::ffff:1.2.3.4"))
        self.assertEqual(mapped.run(program), ipv4.run(program))

    def test_a_weight_of_nothing(self) -> None:
        """A slot that weighs 0, the least there is, is chosen if there is no other."""
        source = packet(str(ipaddress.IPv4Address(constant(3))))
        self.assertEqual(mixed(0), 0)
        self.assertEqual(Machine(source).run(bpf.program({3: 8})), 8)
        self.assertEqual(Machine(source).run(bpf.program({3: 8, 4: 9})), 9)

    def test_the_least_weight(self) -> None:
        """A slot that weighs 1, the least above nothing, wins against one that weighs 0."""
        constants = {1: 0, 2: 0x0D61F40C}
        self.assertEqual([mixed(constants[slot]) for slot in (1, 2)], [0, 1])
        self.patch(bpf, "constant", constants.__getitem__)
        self.assertEqual(Machine(packet("0.0.0.0")).run(bpf.program({1: 8, 2: 9})), 9)

    @given(st.integers(0, 255))
    @settings(deadline=None)
    def test_another_protocol(self, first: int) -> None:
        """A packet of another version than 4 and 6 goes to the first socket of the group."""
        if first >> 4 not in (4, 6):
            told = Machine(bytes([first]) + bytes(40)).run(bpf.program({1: 11, 2: 12}))
            self.assertEqual(told, 0)

    def test_one_slot(self) -> None:
        """With a single slot its socket is the answer to all."""
        for source in ENDS:
            self.assertEqual(Machine(packet(source)).run(bpf.program({5: 0})), 0)


class SizeTests(SynchronousTestCase):
    """How long a program may be."""

    def test_limit(self) -> None:
        """A program as long as the kernel takes is made; one for another slot is an error."""
        size = len(bpf.program({1: 0, 2: 1}))
        self.patch(bpf, "MOST", size)
        self.assertEqual(len(bpf.program({1: 0, 2: 1})), size)
        error = self.assertRaises(ValueError, bpf.program, {1: 0, 2: 1, 3: 2})
        self.assertIn("3 workers", str(error))

    def test_many(self) -> None:
        """More than 200 workers have a program that the kernel takes."""
        self.assertLessEqual(len(bpf.program(dict.fromkeys(range(1, 202), 0))), 4096)
        self.assertEqual(bpf.MOST, 4096)

    def test_jumps(self) -> None:
        """Every jump leads forward, and to an instruction; the conditional ones fit a byte."""
        program = bpf.program({slot: slot for slot in range(1, 220)})
        for at, (operation, jump_true, jump_false, k) in enumerate(program):
            self.assertLess(max(jump_true, jump_false), 256)
            farthest = k if operation == bpf.JUMP else max(jump_true, jump_false)
            self.assertLess(at + 1 + farthest, len(program) + (operation in (6, 0x16)))


class CodesTests(SynchronousTestCase):
    """The instructions as the kernel reads them."""

    def test_codes(self) -> None:
        """Each code is made of the numbers in linux/bpf_common.h."""
        ld, ldx, st, alu, jmp, ret, misc = 0, 1, 2, 4, 5, 6, 7  # classes
        word, byte, immediate, absolute, memory = 0x00, 0x10, 0x00, 0x20, 0x60
        mul, rsh, xor, ja, jeq, jgt, k, x, a, tax = 0x20, 0x70, 0xA0, 0, 0x10, 0x20, 0, 8, 0x10, 0
        for found, code in (
            (bpf.LOAD_WORD, ld | word | absolute),
            (bpf.LOAD_BYTE, ld | byte | absolute),
            (bpf.LOAD_NUMBER, ld | immediate),
            (bpf.LOAD, ld | memory),
            (bpf.LOAD_X, ldx | memory),
            (bpf.STORE, st),
            (bpf.COPY_TO_X, misc | tax),
            (bpf.MULTIPLY, alu | mul | k),
            (bpf.SHIFT_RIGHT, alu | rsh | k),
            (bpf.XOR_NUMBER, alu | xor | k),
            (bpf.XOR_X, alu | xor | x),
            (bpf.JUMP, jmp | ja),
            (bpf.IF_EQUAL, jmp | jeq | k),
            (bpf.IF_GREATER_X, jmp | jgt | x),
            (bpf.RETURN, ret | k),
            (bpf.RETURN_A, ret | a),
        ):
            self.assertEqual(found, code)
        self.assertEqual(bpf.NETWORK, -0x100000 & 0xFFFFFFFF)  # SKF_NET_OFF

    def test_fields(self) -> None:
        """Every instruction fits the kernel's fields (struct sock_filter), none of them signed."""
        for step in bpf.program({1: 5, 2: 6}):
            self.assertEqual(struct.unpack("=HBBI", struct.pack("=HBBI", *step)), step)

    def test_unused(self) -> None:
        """What an operation has no use for is 0."""
        for operation, jump_true, jump_false, k in bpf.program({1: 5, 2: 6}):
            if operation not in (bpf.IF_EQUAL, bpf.IF_GREATER_X):
                self.assertEqual((jump_true, jump_false), (0, 0), operation)
            if operation in (bpf.COPY_TO_X, bpf.XOR_X, bpf.IF_GREATER_X, bpf.RETURN_A):
                self.assertEqual(k, 0, operation)
