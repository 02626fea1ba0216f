"""Servers of the Model Context Protocol, by the SDKs of Python and Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.applications.harness import ApplicationTestCase, node_modules, one

NODE_CLIENT = Path(__file__).with_name("mcp_client.mjs")


class PythonTests(ApplicationTestCase):
    """The SDK of Python."""

    application = "MCP SDK, Python client"
    packages = ("mcp", "uvicorn")
    served = "mcp_server:app"
    done = "calls of a tool are counted in their session, six sessions at once; DELETE; a reload"

    def test_sessions(self) -> None:
        """Sessions stay with their worker, and a reload begins new ones."""
        before = asyncio.run(self.several())
        self.cluster.reload()
        self.assertFalse(before & asyncio.run(self.several()))
        self.proved()

    async def several(self) -> set[int]:
        """Some sessions at once; returns the processes that served them."""
        pids = set(await asyncio.gather(*(self.session() for _ in range(6))))
        self.assertGreater(len(pids), 1, "the sessions are not spread")
        return pids

    async def session(self) -> int:
        """One session: it is begun, used and ended."""
        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client

        async with (
            streamable_http_client(f"{self.cluster.url}/mcp") as streams,
            ClientSession(*streams[:2]) as session,
        ):
            await session.initialize()
            told = [await self.count(session) for _ in range(5)]
        self.assertEqual([count for count, _ in told], [1, 2, 3, 4, 5])
        pid = one(pid for _, pid in told)
        assert isinstance(pid, int)
        return pid

    async def count(self, session: Any) -> tuple[int, int]:
        """Call the tool: the count and the process."""
        answer = await session.call_tool("count", {})
        count, pid, has_session = answer.content[0].text.split()
        self.assertEqual(has_session, "True")
        return int(count), int(pid)


class NodeTests(ApplicationTestCase):
    """The SDK of Node, whose clients keep no cookies."""

    application = "MCP SDK, Node client"
    packages = ("mcp", "uvicorn")
    served = "mcp_server:app"
    done = PythonTests.done

    def test_sessions(self) -> None:
        """Sessions stay with their worker, and a reload begins new ones."""
        if not shutil.which("node"):
            raise SkipTest("node is not installed")
        self.modules = node_modules("@modelcontextprotocol/sdk")
        before = self.several()
        self.cluster.reload()
        self.assertFalse(before & self.several())
        self.proved()

    def several(self) -> set[int]:
        """Some sessions at once; returns the processes that served them."""
        done = subprocess.run(
            ["node", str(NODE_CLIENT), str(self.modules), f"{self.cluster.url}/mcp", "6"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        pids = set()
        for session in json.loads(done.stdout):
            told = [text.split() for text in session]
            self.assertEqual([count for count, _, _ in told], ["1", "2", "3", "4", "5"])
            pids.add(int(str(one(pid for _, pid, _ in told))))
        self.assertGreater(len(pids), 1, "the sessions are not spread")
        return pids
