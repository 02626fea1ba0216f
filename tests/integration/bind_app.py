"""An application that binds a key of the length that it is asked for."""

from __future__ import annotations

from twisted.web.resource import Resource
from twisted.web.server import Request

import txsticky


class Binds(Resource):
    """`/?size=N` binds a key of N bytes, and answers what came of it."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        here = txsticky.current()
        assert here is not None
        try:
            here.bind(b"k" * int(request.args.get(b"size", [b"1"])[0]))
        except ValueError as error:
            return str(error).encode()
        return b"bound"


app = Binds()
