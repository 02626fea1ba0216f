"""Binds as many keys as it is asked to; in a folder of its own, so that any txsticky serves it."""

from __future__ import annotations

from twisted.web import resource, server

import txsticky


class Root(resource.Resource):
    """``/?from=1000&count=1000`` binds a thousand keys here; without a count there are none."""

    isLeaf = True

    def render_GET(self, request: server.Request) -> bytes:
        here = txsticky.current()
        first, count = (int(request.args.get(name, [b"0"])[0]) for name in (b"from", b"count"))
        for number in range(first, first + count):
            here.bind(f"key-{number:08d}")
        return b"ok"
