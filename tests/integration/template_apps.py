"""An application that tells what kind of process it is in."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import uuid

from twisted.web.resource import Resource
from twisted.web.server import Request

import txsticky

IMPORTED = os.getpid()
CALLED: list[int] = []


@txsticky.after_fork
def called() -> None:
    """Note in which process it was called."""
    CALLED.append(os.getpid())


class Teller(Resource):
    """Tells it as JSON."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        told = {"kept": kept(), "own": own()}
        return json.dumps(told).encode()


def kept() -> dict[str, object]:
    """What a worker is to have whether it was forked or executed."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    with open("/proc/self/oom_score_adj") as file:
        oom = file.read()
    return {
        "group": os.getpgid(0) == os.getpgid(os.getppid()),
        "session": os.getsid(0) == os.getsid(os.getppid()),
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "status": {n: status[n] for n in ("Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs")},
        "oom": oom,
        "folder": os.getcwd(),
        "arguments": [sys.argv[0], len(sys.argv), sys.orig_argv[1:4], len(sys.orig_argv)],
        "path": sys.path,
        "input": os.readlink("/proc/self/fd/0"),
        "outputs": [os.path.samestat(os.fstat(1), os.fstat(2)), os.readlink("/proc/self/fd/1")[:5]],
        "limits": [resource.getrlimit(n) for n in range(resource.RLIM_NLIMITS)],
        "environ": {n: v for n, v in os.environ.items() if n != "TXSTICKY_TEMPLATE"},
        "threads": len(os.listdir("/proc/self/task")),
    }


def own() -> dict[str, object]:
    """What differs."""
    with open("/proc/self/smaps_rollup") as file:
        sizes = dict(line.split(":", 1) for line in file.read().splitlines()[1:])
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "imported": IMPORTED,
        "called": CALLED,
        "chance": random.random(),
        "uuid": str(uuid.uuid4()),
        "private": int(sizes["Private_Dirty"].split()[0]) << 10,
    }


app = Teller()
