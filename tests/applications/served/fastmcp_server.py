"""FastMCP: a server with a count for each session."""

from __future__ import annotations

import os
from collections import Counter

from fastmcp import Context, FastMCP

server: FastMCP = FastMCP("count")
counts: Counter[str] = Counter()


@server.tool
def count(ctx: Context) -> str:
    """Count the calls of this session, in this process."""
    counts[ctx.session_id] += 1
    return f"{counts[ctx.session_id]} {os.getpid()}"


app = server.http_app()
