"""What can be said beside the server: on the command line, and to its control socket."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Verb:
    """
    One thing to say.

    :param name: what is typed.
    :param help: one line.
    :param worker: whether a worker's number follows it.
    """

    name: str
    help: str
    worker: bool = False


VERBS: Final = (
    Verb("status", "Show how the cluster does."),
    Verb("workers", "Show the workers."),
    Verb("table", "Show the keys that the application bound to workers."),
    Verb("drain", "Replace a worker: its successor is ready before it finishes.", worker=True),
    Verb("kill", "Kill a worker at once; what it held is lost, another is started.", worker=True),
    Verb("add", "Run one worker more."),
    Verb("remove", "Run one worker less: the last one finishes what it holds."),
    Verb("reload", "Replace all workers, one by one."),
    Verb("stop", "Stop the cluster gracefully; said twice, quickly."),
)


@attrs.frozen
class Subcommand:
    """
    A command beside the server: the first word behind ``txsticky``.

    :param name: what is typed.
    :param help: one line.
    :param module: has `main`, which is given what follows the word, and returns the exit code.
    :param options: its options, and what they are for.
    """

    name: str
    help: str
    module: str
    options: dict[str, str]


#: The options of ``txsticky ctl``, and what they are for.
OPTIONS: Final = {
    "--control": "the cluster's control socket",
    "--json": "print the answer as JSON",
    "--shell-completion": "print what makes a shell complete this command",
    "--help": "show this, and exit",
}

#: The options of ``txsticky publish``, and what they are for.
PUBLISH_OPTIONS: Final = {
    "--control": "the cluster's control socket",
    "--bus": "the Redis that the clusters' --bus names",
    "--help": "show this, and exit",
}

#: The options of ``txsticky balancer``, in a few words; its help has more.
BALANCER_OPTIONS: Final = {
    "--bind": "where the balancer listens",
    "--tls-cert": "certificate with which it ends TLS",
    "--tls-key": "private key, for nginx",
    "--machines-tls": "name in the certificates of the machines",
    "--machines-ca": "authority that has signed them",
    "--proxy-protocol": "tell the client by PROXY",
    "--status-port": "port of each machine's --status",
    "--cookie": "name of the inserted cookie",
    "--help": "show this, and exit",
}

CTL: Final = Subcommand(
    "ctl", "Look at a running cluster, and steer it.", "txsticky.admin.ctl", OPTIONS
)
SUBCOMMANDS: Final = (
    CTL,
    Subcommand(
        "publish",
        "Send a message to the workers that listen to a topic.",
        "txsticky.cli.publish",
        PUBLISH_OPTIONS,
    ),
    Subcommand(
        "balancer",
        "Print the configuration of a balancer in front of several machines.",
        "txsticky.cli.balancer",
        BALANCER_OPTIONS,
    ),
)
