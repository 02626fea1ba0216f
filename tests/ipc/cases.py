"""A mailbox with both ends in the test."""

from __future__ import annotations

import os
import socket
from typing import Any

from tests.shells import ShellCase
from txsticky.errors import MailboxFull
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair


class Reader:
    """Keeps what arrives, each descriptor with the message that followed it."""

    def __init__(self) -> None:
        self.got: list[tuple[int | None, bytes]] = []
        self.fail_on: bytes | None = None
        self._descriptor: int | None = None

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Keep a descriptor for its message."""
        assert self._descriptor is None, "two descriptors in a row"
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """Keep a message."""
        self.got.append((self._descriptor, data))
        self._descriptor = None
        if data == self.fail_on:
            raise ZeroDivisionError("the reader fails")

    @property
    def messages(self) -> list[bytes]:
        """The messages alone."""
        return [message for _, message in self.got]

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor, _ in self.got:
            if descriptor is not None:
                os.close(descriptor)
        self.got = []


class MailboxCase(ShellCase):
    """A mailbox with both ends here."""

    kind = socket.SOCK_SEQPACKET

    def setUp(self) -> None:
        super().setUp()
        self.reader = self.owned(Reader())
        sending, self.reading = mailbox_pair(self.kind)
        self.receiver = self.transport(self.reading, self.reader)
        self.sender = self.transport(sending)

    def transport(self, end: socket.socket, *arguments: Any, **options: Any) -> MailboxTransport:
        """A transport over an end, closed when the test ends."""
        transport = MailboxTransport(end, self.reactor, *arguments, **options)
        self.addCleanup(self.close, transport)
        return transport

    def close(self, transport: MailboxTransport) -> None:
        """Close a transport and what waits in it."""
        for descriptor, _ in transport.take_queue():
            if descriptor >= 0:
                os.close(descriptor)
        transport.loseConnection()

    def file(self) -> tuple[int, int]:
        """A descriptor of a file that is open nowhere else, and the number of its inode."""
        reading, writing = os.pipe()
        os.close(writing)
        return reading, os.fstat(reading).st_ino

    def send(self, message: bytes, sender: MailboxTransport | None = None) -> tuple[int, int]:
        """Send a message with a descriptor; returns the descriptor and its inode."""
        descriptor, inode = self.file()
        sender = sender or self.sender
        sender.sendFileDescriptor(descriptor)
        try:
            sender.write(message)
        except MailboxFull:
            os.close(descriptor)
            raise
        return descriptor, inode

    def fill(self, size: int = 600, more: int = 0) -> list[tuple[int, bytes]]:
        """Send until the kernel takes no more, and so many on top; returns (inode, message)s."""
        sent: list[tuple[int, bytes]] = []
        while self.sender.queued < 1 + more:
            message = b"%d " % len(sent) + bytes(size)
            sent.append((self.send(message)[1], message))
        return sent

    def pairs(self) -> list[tuple[int, bytes]]:
        """What was received, as (inode, message)s."""
        return [
            (os.fstat(descriptor).st_ino if descriptor is not None else 0, message)
            for descriptor, message in self.reader.got
        ]
