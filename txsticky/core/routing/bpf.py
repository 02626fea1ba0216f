"""
A program of classic BPF that chooses a socket by the client's address, as `address_hash` does.

The kernel runs it for each connection to a group of sockets that share an address (socket(7),
SO_ATTACH_REUSEPORT_CBPF): what it returns is the number of a socket in the group.  Instructions and
their codes are those of linux/filter.h and linux/bpf_common.h; the machine has an accumulator A, an
index register X and 16 words of memory, and nothing in it turns back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Final

from .address_hash import FACTORS, SHIFTS, constant

#: Operation, jump if true, jump if false (both relative to the next instruction), operand.
Instruction = tuple[int, int, int, int]
Program = tuple[Instruction, ...]

#: The longest program that the kernel takes (BPF_MAXINSNS).
MOST: Final = 4096
#: Added to an offset, it counts from the network header (SKF_NET_OFF, -0x100000).
NETWORK: Final = 0xFFF00000

# What stands in brackets is what an operation does; k is the operand, M the memory.
LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS [A = 4 bytes of the packet at k, big-endian]
LOAD_BYTE: Final = 0x30  # BPF_LD | BPF_B | BPF_ABS [A = a byte of the packet at k]
LOAD_NUMBER: Final = 0x00  # BPF_LD | BPF_IMM [A = k]
LOAD: Final = 0x60  # BPF_LD | BPF_MEM [A = M[k]]
LOAD_X: Final = 0x61  # BPF_LDX | BPF_MEM [X = M[k]]
STORE: Final = 0x02  # BPF_ST [M[k] = A]
COPY_TO_X: Final = 0x07  # BPF_MISC | BPF_TAX [X = A]
MULTIPLY: Final = 0x24  # BPF_ALU | BPF_MUL | BPF_K [A *= k]
SHIFT_RIGHT: Final = 0x74  # BPF_ALU | BPF_RSH | BPF_K [A >>= k]
XOR_NUMBER: Final = 0xA4  # BPF_ALU | BPF_XOR | BPF_K [A ^= k]
XOR_X: Final = 0xAC  # BPF_ALU | BPF_XOR | BPF_X [A ^= X]
JUMP: Final = 0x05  # BPF_JMP | BPF_JA [jump by k]
IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K [jump by A == k]
IF_GREATER_X: Final = 0x2D  # BPF_JMP | BPF_JGT | BPF_X [jump by A > X]
RETURN: Final = 0x06  # BPF_RET | BPF_K [the answer is k]
RETURN_A: Final = 0x16  # BPF_RET | BPF_A [the answer is A]

# Places in the memory: the address' word, the greatest weight so far, its socket.
_WORD, _WEIGHT, _SOCKET = range(3)
# Offsets in the network header, in bytes (RFC 791, section 3.1; RFC 8200, section 3).
_IPV4_SOURCE: Final = 12
_IPV6_SOURCE: Final = 8


def program(sockets: Mapping[int, int]) -> Program:
    """
    Make the program for some slots.

    A packet that is neither IPv4 nor IPv6 goes to the group's first socket.

    :param sockets: the number of each slot's socket in the group; at least one slot.
    :raises ValueError: the program would be longer than `MOST` instructions.
    """
    weighing = [step for slot, number in sockets.items() for step in _weigh(slot, number)]
    # The first slot is the answer until another one weighs more than 0; no two weigh the same.
    whole = (
        *_word(),
        (STORE, 0, 0, _WORD),
        (LOAD_NUMBER, 0, 0, 0),
        (STORE, 0, 0, _WEIGHT),
        (LOAD_NUMBER, 0, 0, next(iter(sockets.values()))),
        (STORE, 0, 0, _SOCKET),
        *weighing,
        (LOAD, 0, 0, _SOCKET),
        (RETURN_A, 0, 0, 0),
    )
    if len(whole) > MOST:
        raise ValueError(
            f"A program for {len(sockets)} workers has {len(whole)} instructions; the kernel takes"
            f" {MOST}."
        )
    return whole


def _word() -> Iterator[Instruction]:
    """Have the address' word in A (`address_hash.address_word`)."""
    ipv6: list[Instruction] = [(LOAD_WORD, 0, 0, NETWORK + _IPV6_SOURCE)]
    for offset in (4, 8, 12):
        ipv6 += _mix()
        ipv6 += [
            (COPY_TO_X, 0, 0, 0),
            (LOAD_WORD, 0, 0, NETWORK + _IPV6_SOURCE + offset),
            (XOR_X, 0, 0, 0),
        ]
    mapped: list[Instruction] = []  # ::ffff:0:0/96 (RFC 4291, section 2.5.5.2): the last word is it
    for offset, word in enumerate((0, 0, 0xFFFF)):
        mapped += [
            (LOAD_WORD, 0, 0, NETWORK + _IPV6_SOURCE + 4 * offset),
            (IF_EQUAL, 0, 6 - 2 * offset, word),
        ]
    mapped += [(LOAD_WORD, 0, 0, NETWORK + _IPV6_SOURCE + 12), (JUMP, 0, 0, len(ipv6))]
    yield LOAD_BYTE, 0, 0, NETWORK  # its upper half is the version
    yield SHIFT_RIGHT, 0, 0, 4
    yield IF_EQUAL, 2, 0, 4  # to the address of IPv4
    yield IF_EQUAL, 3, 0, 6  # to that of IPv6
    yield RETURN, 0, 0, 0
    yield LOAD_WORD, 0, 0, NETWORK + _IPV4_SOURCE
    yield JUMP, 0, 0, len(mapped) + len(ipv6)
    yield from mapped
    yield from ipv6


def _mix() -> Iterator[Instruction]:
    """Mix A (`address_hash.mixed`)."""
    for shift, factor in zip_longest(SHIFTS, FACTORS):
        yield COPY_TO_X, 0, 0, 0
        yield SHIFT_RIGHT, 0, 0, shift
        yield XOR_X, 0, 0, 0
        if factor is not None:
            yield MULTIPLY, 0, 0, factor


def _weigh(slot: int, number: int) -> Iterator[Instruction]:
    """Have a slot's socket be the answer if the slot weighs more than those before."""
    yield LOAD, 0, 0, _WORD
    yield XOR_NUMBER, 0, 0, constant(slot)
    yield from _mix()
    yield LOAD_X, 0, 0, _WEIGHT
    yield IF_GREATER_X, 0, 3, 0
    yield STORE, 0, 0, _WEIGHT
    yield LOAD_NUMBER, 0, 0, number
    yield STORE, 0, 0, _SOCKET
