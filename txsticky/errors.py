"""The errors: the docstring of each class is the sentence that the operator reads."""

from __future__ import annotations

from typing import Any, ClassVar

from .printable import printable


class TxstickyError(Exception):
    """
    An error that the operator has to know of.

    A subclass's docstring is a format string (`str.format`); the fields that it names are the
    arguments. The sentence is printable (`printable`), whatever the fields are.

    :raises KeyError: a field that the sentence names is missing.
    """

    #: The exit code of a command that this error ends; 3, as in gunicorn, when the application
    #: does not load.
    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        sentence = type(self).__doc__ or type(self).__name__  # `python -OO` strips the docstrings
        super().__init__(printable(" ".join(sentence.split()).format_map(fields), lines=True))


class ConfigError(TxstickyError):
    """{option} cannot be {value!r}: {hint}."""

    def __init__(self, *, option: str, value: object, hint: str) -> None:
        super().__init__(option=option, value=value, hint=hint.rstrip("."))


class UnpairedKeys(ConfigError):
    """
    Each --tls-cert needs its --tls-key, in the same order: there are {certificates} of the one and
    {keys} of the other.
    """

    def __init__(self, *, certificates: int, keys: int) -> None:
        TxstickyError.__init__(self, certificates=certificates, keys=keys)


class AppLoadError(TxstickyError):
    """The application {target} does not load: {reason}."""

    exit_code = 3


class TlsError(TxstickyError):
    """TLS cannot be served: {reason}."""

    exit_code = 3


class ListenError(TxstickyError):
    """Cannot listen on {endpoint}: {reason}."""


class UpgradeError(TxstickyError):
    """The running program hands over a state of form {found}; this one knows form {known}."""


class MailboxFull(TxstickyError):
    """The mailbox of a worker takes no more hand-offs ({queued} wait already)."""


class WireError(TxstickyError):
    """A message between processes of the cluster cannot be read: {why}."""


class KeyTooLong(TxstickyError, ValueError):
    """A key of {size} bytes is too long to be bound to a worker: it may have {limit}."""


class ChannelFull(TxstickyError):
    """The primary takes no more from this worker now: {waiting} bytes wait for it to read."""


class TooManyTopics(TxstickyError):
    """A worker can listen to {count} topics, with {size} bytes of names, and no more."""


class ProtocolMismatch(TxstickyError):
    """
    This version of txsticky speaks protocol {ours}, and the program that runs speaks {theirs}.
    Restart the program: a reload or an upgrade in place cannot bridge that.
    """


class BusOverrun(TxstickyError):
    """The bus takes no more from this worker now: {waiting} bytes wait for the primary to read."""


class WorkerEnds(TxstickyError):
    """This worker ends: its reactor has stopped, and does nothing more that a thread asks for."""


class NotInWorker(TxstickyError):
    """
    {what} works in a worker of txsticky that has started, and this process is none: run the
    application under txsticky, or give the server another client manager here. To emit from here,
    there is write_only=True.
    """


class CannotReceive(TxstickyError):
    """
    {what} receives in a worker of txsticky, and this process is none: from here it sends to groups
    and to the channels of processes.
    """


class Unanswered(TxstickyError):
    """{sentence}"""


class NoListener(TxstickyError):
    """No worker listens to the topic {topic!r}: the message has reached none."""


class WhichCluster(TxstickyError):
    """
    This process is no worker, and no cluster is named: name the control socket of one (control,
    --control or TXSTICKY_CONTROL), or the Redis of its bus (bus, --bus or TXSTICKY_BUS).
    """


class MessageTooLarge(TxstickyError):
    """A bus message of {size} bytes is too large: with its topic it may have {limit} bytes."""
