"""A server of the Model Context Protocol, by its Python SDK, with a count for each session."""

from __future__ import annotations

import os
from collections import Counter

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("count")
counts: Counter[str] = Counter()


@server.tool()
def count(ctx: Context) -> str:
    """Count the calls of this session, in this process."""
    request = ctx.request_context.request
    session = "" if request is None else request.headers.get("mcp-session-id", "")
    counts[session] += 1
    return f"{counts[session]} {os.getpid()} {bool(session)}"


app = server.streamable_http_app()
