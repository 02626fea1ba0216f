"""A WSGI application that asks its worker everything, in the thread of a request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import txsticky
from txsticky.errors import KeyTooLong

#: For each message of the bus, whether it was told in the reactor's thread.
heard: list[bool] = []


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Ask."""
    here = txsticky.current()
    assert here is not None
    here.free(environ["PATH_INFO"])
    bound = here.bind(environ["PATH_INFO"])
    told = threading.Event()

    def hear(message: bytes) -> None:
        heard.append(threading.current_thread() is threading.main_thread())
        told.set()

    end = here.subscribe("news", hear)
    here.publish("news", b"hello")
    told.wait(10)
    end()
    try:
        here.bind("k" * 5000)
    except KeyTooLong:
        refused = True
    answer = {
        "request in the main thread": threading.current_thread() is threading.main_thread(),
        "bound": bound.called,
        "refused": refused,
        "heard in the main thread": heard[-1],
        "workers": len(here.pool()),
        "owner": here.owner(here.mint("a")) == here.id,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
