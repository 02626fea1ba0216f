"""An application that tells which process it is."""

from __future__ import annotations

import os

from twisted.web.resource import Resource
from twisted.web.server import Request


class Teller(Resource):
    """Tells it."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"%d" % os.getpid()


app = Teller()
