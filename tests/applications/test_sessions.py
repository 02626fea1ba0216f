"""Web frameworks whose sessions are in the memory of a worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from tests.applications.harness import ApplicationTestCase, one
from tests.integration.cluster import ROOT


class SessionCase(ApplicationTestCase):
    """An application that counts the visits of a session, in ``visits``."""

    #: Clients, each with a jar.
    CLIENTS = 4

    def client(self) -> Any:
        """A client that keeps cookies and opens a connection for each request."""
        import requests

        client = requests.Session()
        client.headers["Connection"] = "close"
        self.addCleanup(client.close)
        return client

    def visit(self, client: Any) -> dict[str, Any]:
        """Come once."""
        answer = client.get(self.cluster.url, timeout=30)
        self.assertEqual(answer.status_code, 200, answer.text)
        told: dict[str, Any] = answer.json()
        return told

    def stays(self, client: Any, times: int = 4) -> int:
        """Come some times: each visit is one more, in one process, which is returned."""
        told = [self.visit(client) for _ in range(times)]
        first = told[0]["visits"]
        self.assertEqual([each["visits"] for each in told], list(range(first, first + times)))
        pid = one(each["pid"] for each in told)
        assert isinstance(pid, int)
        return pid

    def lives(self) -> None:
        """Several clients stay, each at one worker, before and after a reload."""
        clients = [self.client() for _ in range(self.CLIENTS)]
        before = {self.stays(client) for client in clients}
        self.assertGreater(len(before), 1, "the clients are not spread")
        self.cluster.reload()
        after = {self.stays(client) for client in clients}
        self.assertFalse(before & after)
        self.proved()


class StarletteTests(SessionCase):
    """Starlette."""

    application = "Starlette, sessions in memory"
    packages = ("starlette", "requests", "uvicorn")
    served = "starlette_sessions:app"
    done = "visits of four clients are counted, each by one worker, over a reload"

    def test_sessions(self) -> None:
        """Sessions in a dictionary."""
        self.lives()


class LitestarTests(SessionCase):
    """Litestar."""

    application = "Litestar, sessions in its memory store"
    packages = ("litestar", "requests", "uvicorn")
    served = "litestar_sessions:app"
    done = StarletteTests.done

    def test_sessions(self) -> None:
        """Server-side sessions."""
        self.lives()


class QuartTests(SessionCase):
    """Quart."""

    application = "Quart, HTTP and WebSocket"
    packages = ("quart", "requests", "uvicorn", "websocket-client")
    served = "quart_sessions:app"
    done = "visits are counted over HTTP, and a WebSocket of the same client knows them; a reload"

    def test_sessions(self) -> None:
        """A WebSocket reaches the worker of its client's requests."""
        import websocket

        for _ in range(self.CLIENTS):
            client = self.client()
            pid = self.stays(client)
            jar = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies)
            url = self.cluster.url.replace("http", "ws") + "/ws"
            socket = websocket.create_connection(url, cookie=jar, timeout=30)
            socket.send("how often?")
            self.assertEqual(json.loads(socket.recv()), {"visits": 4, "pid": pid})
            socket.close()
        self.lives()


class DjangoTests(SessionCase):
    """Django."""

    application = "Django, sessions in memory, admin"
    packages = ("django", "requests")
    served = "django_site:app"
    done = "log in to the admin, add a user by its form, log out; visits are counted; a reload"
    environment: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        type(self).environment = {"DATABASE": str(folder.resolve() / "database")}
        try:
            import django  # noqa: F401
        except ImportError:
            pass
        else:
            subprocess.run(
                [sys.executable, "-m", "tests.applications.served.django_site", "secret"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                check=True,
                timeout=120,
            )
        super().setUp()

    def form(self, client: Any, path: str, **fields: str) -> str:
        """Fill in a form: Django wants the token that stands in it."""
        url = f"{self.cluster.url}/admin/{path}"
        page = client.get(url, timeout=30)
        self.assertEqual(page.status_code, 200)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None, page.text
        data = {"csrfmiddlewaretoken": token[1], **fields}
        answer = client.post(url, data=data, headers={"Referer": url}, timeout=30)
        self.assertEqual(answer.status_code, 200)
        return str(answer.text)

    def admin(self, client: Any, name: str) -> None:
        """Log in, add a user, log out."""
        self.form(client, "login/?next=/admin/", username="admin", password="secret")
        added = self.form(
            client, "auth/user/add/", username=name, password1="Xy!93kd02", password2="Xy!93kd02"
        )
        self.assertIn("was added successfully", added)
        self.assertIn(name, client.get(f"{self.cluster.url}/admin/auth/user/", timeout=30).text)

    def test_admin(self) -> None:
        """A session in the memory of one process serves the admin's forms."""
        for number in range(self.CLIENTS):
            self.admin(self.client(), f"user{number}")
        self.lives()


class ChannelsTests(ApplicationTestCase):
    """Django Channels."""

    application = "Django Channels, groups"
    packages = ("channels", "django", "uvicorn", "websockets", "websocket-client", "msgpack")
    served = "channels_groups:app"
    heavy = True
    done = "six consumers in several workers hear in a group what each of them says; a reload"

    def test_group(self) -> None:
        """What one says all hear, in whichever worker they are."""
        before = self.converse()
        self.cluster.reload()
        self.assertFalse(before & self.converse())
        self.proved()

    def converse(self) -> set[str]:
        """Some join, say something, and hear all; returns the processes that served them."""
        import websocket

        url = self.cluster.url.replace("http", "ws") + "/ws"
        sockets = [websocket.create_connection(url, timeout=30) for _ in range(6)]
        for number, socket in enumerate(sockets):
            socket.send(f"say{number}")
        heard = [[socket.recv().split() for _ in sockets] for socket in sockets]
        for socket, words in zip(sockets, heard, strict=True):
            self.assertEqual(sorted(word for word, _ in words), [f"say{n}" for n in range(6)])
            socket.close()
        pids = {str(one(pid for _, pid in words)) for words in heard}
        self.assertGreater(len(pids), 1, "the consumers are not spread")
        return pids


class GraphQLTests(ApplicationTestCase):
    """GraphQL subscriptions, by Strawberry."""

    application = "GraphQL subscriptions (Strawberry)"
    packages = ("strawberry-graphql", "aiohttp", "uvicorn")
    served = "graphql:app"
    done = "what a mutation says reaches the subscription of the same client; a reload"

    def test_subscriptions(self) -> None:
        """Mutations of a client reach its subscription."""
        for _ in range(4):
            asyncio.run(self.converse())
        self.cluster.reload()
        for _ in range(4):
            asyncio.run(self.converse())
        self.proved()

    async def converse(self) -> None:
        """Subscribe over a WebSocket, and say something over HTTP, with one jar."""
        import aiohttp

        jar = aiohttp.CookieJar(unsafe=True)  # which keeps those of an address
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as client:
            await self.ask(client, "{ pid }")
            protocol = "graphql-transport-ws"
            async with client.ws_connect(self.cluster.url, protocols=[protocol]) as socket:
                await socket.send_json({"type": "connection_init"})
                self.assertEqual((await socket.receive_json(timeout=30))["type"], "connection_ack")
                query = {"query": "subscription { said }"}
                await socket.send_json({"type": "subscribe", "id": "1", "payload": query})
                while not await self.ask(client, 'mutation { say(text: "hello") }', "say"):
                    await asyncio.sleep(0.1)
                told = await socket.receive_json(timeout=30)
                self.assertEqual(told["payload"]["data"], {"said": "hello"})

    async def ask(self, client: Any, query: str, field: str = "pid") -> Any:
        """A query, or a mutation, over a connection of its own."""
        async with client.post(self.cluster.url, json={"query": query}) as answer:
            return (await answer.json())["data"][field]
