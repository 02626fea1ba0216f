"""Litestar: server-side sessions in its memory store."""

from __future__ import annotations

import os
from typing import Any

from litestar import Litestar, Request, get
from litestar.middleware.session.server_side import ServerSideSessionConfig


@get("/")
async def visit(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Counts the visits of a session."""
    count = request.session.get("visits", 0) + 1
    request.set_session({"visits": count})
    return {"visits": count, "pid": os.getpid()}


app = Litestar([visit], middleware=[ServerSideSessionConfig().middleware])
