"""A sticky multi-worker server: connections move, bytes don't.

A primary process accepts each TCP connection, reads one request head, decides which worker it
belongs to, and passes the open descriptor with the bytes already read. From then on every byte
flows between the client and the worker through the kernel.

A map of the house, each floor importing only what stands above it:

* `errors`: one class per refusal; its docstring is the sentence that the operator reads.
* `core`: values and decisions (heads, framing, keys, tags, pool, route), free of I/O.
* `config`: every option, checked and frozen; `system`: the operating system as one argument.
* `descriptor`, `mailbox`, `channel`, `peek`: how a connection is let go, carried, and adopted.
* `listeners` and `entrance`: who accepts, in the primary and in a worker.
* `connection`: what a worker keeps of one, and what comes to it from outside (`core.life`).
* `primary` and `worker`: the two kinds of process; `gate` watches request boundaries in a worker;
  `serve` speaks to the application: twisted.web, WSGI, ASGI, autobahn, any protocol factory.
* `supervisor` starts, reloads and retires workers; `bus` carries messages between them; `admin`
  is the status page, the metrics and the control socket.
* `options`, `plugin` and `__main__`: the command line.
"""

from __future__ import annotations

# Nothing is imported here: this runs first, and the working directory may be on the path still
# (`startup`).
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .api import Here, current
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
    "__version__",
    "current",
]

_HOMES = {
    "Cluster": "cluster",
    "Config": "config",
    "Here": "api",
    "current": "api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a worker does not need what the primary does."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
