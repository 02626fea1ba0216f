"""Why a worker was chosen."""

from __future__ import annotations

import enum


class How(enum.IntEnum):
    """Why a worker was chosen."""

    __hash__ = int.__hash__  # IntEnum's own is a Python function

    TAG = 1  # a key carries its signed tag
    HIT = 2  # a key is bound to it in the table
    HASH = 3  # a hashed key leads to it by rendezvous
    NEW = 4  # there is no key: the balancer chose
    MISS = 5  # there is a key that is bound to no worker: by rendezvous on that key
