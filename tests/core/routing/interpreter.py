"""A machine for classic BPF: the instructions that `bpf` uses, as the kernel defines them."""

from __future__ import annotations

import ipaddress
import struct

from txsticky.core.routing import bpf

MASK = 0xFFFFFFFF


class Machine:
    """
    Runs a program once.

    :param packet: the packet from its network header on.
    """

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.a = self.x = 0
        self.memory: dict[int, int] = {}

    def run(self, program: bpf.Program) -> int:
        """
        Run a program to its end.

        :returns: what it answers.
        :raises LookupError: it reads what it did not write, or leaves itself or the packet.
        """
        at = 0
        while True:
            operation, jump_true, jump_false, k = program[at]
            at += 1
            if operation == bpf.RETURN:
                return k
            if operation == bpf.RETURN_A:
                return self.a
            if operation == bpf.JUMP:
                at += k
            elif operation == bpf.IF_EQUAL:
                at += jump_true if self.a == k else jump_false
            elif operation == bpf.IF_GREATER_X:
                at += jump_true if self.a > self.x else jump_false
            else:
                self.compute(operation, k)

    def compute(self, operation: int, k: int) -> None:
        """Do an operation that leads to the next one."""
        match operation:
            case bpf.LOAD_WORD:
                self.a = self.read(">I", k)
            case bpf.LOAD_BYTE:
                self.a = self.read(">B", k)
            case bpf.LOAD_NUMBER:
                self.a = k
            case bpf.LOAD:
                self.a = self.memory[k]
            case bpf.LOAD_X:
                self.x = self.memory[k]
            case bpf.STORE:
                self.memory[k] = self.a
            case bpf.COPY_TO_X:
                self.x = self.a
            case bpf.MULTIPLY:
                self.a = self.a * k & MASK
            case bpf.SHIFT_RIGHT:
                self.a >>= k
            case bpf.XOR_NUMBER:
                self.a ^= k
            case bpf.XOR_X:
                self.a ^= self.x
            case _:
                raise LookupError(f"no operation {operation:#x}")

    def read(self, form: str, k: int) -> int:
        """Read from the packet."""
        try:
            (found,) = struct.unpack_from(form, self.packet, k - bpf.NETWORK)
        except struct.error:
            raise LookupError(f"nothing at {k:#x}") from None
        return int(found)


def packet(source: str) -> bytes:
    """The network header of a packet from an address."""
    address = ipaddress.ip_address(source)
    if address.version == 4:
        return b"\x45" + bytes(11) + address.packed + bytes(4)
    return b"\x60" + bytes(7) + address.packed + bytes(16)
