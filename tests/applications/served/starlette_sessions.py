"""Starlette, with sessions in memory that a cookie of its own names."""

from __future__ import annotations

import os
import uuid
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

visits: Counter[str] = Counter()


async def visit(request: Request) -> JSONResponse:
    """Counts the visits of a session, which begins anew where it is not known."""
    session = request.cookies.get("session", "")
    if session not in visits:
        session = uuid.uuid4().hex
    visits[session] += 1
    answer = JSONResponse({"visits": visits[session], "pid": os.getpid()})
    answer.set_cookie("session", session)
    return answer


app = Starlette(routes=[Route("/", visit)])
