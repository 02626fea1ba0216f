"""
A sticky multi-worker server: connections move, bytes don't.

A primary process accepts each TCP connection, reads one request head, decides which worker it
belongs to, and passes the open descriptor with the bytes already read. From then on every byte
flows between the client and the worker through the kernel.

A map of the house; a package imports only from those above it (docs/house.txt has the exact order):

* `printable`, `errors`: text for terminals; an error's docstring is the sentence for the operator.
* `core`: values and decisions without I/O. `core.http` reads HTTP/1.1 and PROXY headers,
  `core.routing` chooses a worker, `core.lifecycle` decides when workers start, drain and end,
  `core.messages` is what processes tell each other.
* `config`: every option, declared once.
* `system`: the operating system and the reactor at arm's length.
* `ipc`: how messages travel between processes: mailboxes for hand-offs, channels for frames.
* `transport`: Twisted transports that can be taken away and adopted, with a gate in them.
* `bus`: publish and subscribe, between workers and between machines.
* `intake`: from accept(2) to a complete first head.
* `tls`: TLS terminated in a worker, and the relay to another worker.
* `serve`: speaks to the application: twisted.web, WSGI, ASGI, any protocol factory.
* `api`: what an application may ask of its worker; `socketio`, `channels` and `demo` use it.
* `worker`: the process that serves.
* `primary`: the process that accepts and routes, keeps the workers running, and upgrades itself.
* `admin`: the status page, the metrics, the control socket and ``txsticky ctl``.
* `cluster`: all parts put together; `cli`: the command line.
* `testing`: what tests of an application need.
"""

from __future__ import annotations

# Nothing is imported here: this module runs first, when the working directory may still be on the
# path (`system.startup`).
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .api import Here, after_fork, current, on_leader
    from .cluster import Cluster
    from .config import Config
    from .errors import (
        AppLoadError,
        BusOverrun,
        ChannelFull,
        ConfigError,
        KeyTooLong,
        ListenError,
        MessageTooLarge,
        TooManyTopics,
        TxstickyError,
        WorkerEnds,
    )

__version__ = "0.1.0"

__all__ = [
    "AppLoadError",
    "BusOverrun",
    "ChannelFull",
    "Cluster",
    "Config",
    "ConfigError",
    "Here",
    "KeyTooLong",
    "ListenError",
    "MessageTooLarge",
    "TooManyTopics",
    "TxstickyError",
    "WorkerEnds",
    "__version__",
    "after_fork",
    "current",
    "on_leader",
]

_HOMES = {
    "Cluster": "cluster",
    "Config": "config",
    "Here": "api",
    "after_fork": "api",
    "current": "api",
    "on_leader": "api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a worker does not need the primary's modules."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
