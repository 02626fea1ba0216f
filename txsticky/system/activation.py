"""
Sockets that a service manager has opened: sd_listen_fds(3).

LISTEN_FDNAMES is optional, and systemd before version 227 and many other managers leave it out.
Twisted takes no socket then, and looks only once, when its endpoints are imported: so what is
missing is filled in when this module is imported; `endpoints`, which alone imports those of Twisted
in the primary, imports it first.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

#: The first descriptor that is passed (sd_listen_fds(3), SD_LISTEN_FDS_START).
START = 3
#: The name of what has none (sd_listen_fds_with_names(3)).
UNNAMED = "unknown"


def take_sockets(environ: MutableMapping[str, str], pid: int) -> list[int]:
    """
    Name the sockets that were passed without names, and keep all of them from being inherited.

    :param environ: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; only the last is changed.
    :param pid: of this process; sockets that are meant for another are left alone.
    :returns: the descriptors.
    """
    text = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not text.isdecimal():
        return []
    descriptors = list(range(START, START + int(text)))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != len(descriptors) or not names[0]:
        environ["LISTEN_FDNAMES"] = ":".join([UNNAMED] * len(descriptors))
    for descriptor in descriptors:
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            pass  # it is said to be there, and is not
    return descriptors


take_sockets(os.environ, os.getpid())
