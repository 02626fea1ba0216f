"""GraphQL by Strawberry: what mutations say, subscriptions over WebSocket are told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

import strawberry
from strawberry.asgi import GraphQL

waiting: set[asyncio.Queue[str]] = set()


@strawberry.type
class Query:
    """What is asked."""

    @strawberry.field
    def pid(self) -> int:
        """The process that answers."""
        return os.getpid()


@strawberry.type
class Mutation:
    """What is changed."""

    @strawberry.mutation
    def say(self, text: str) -> int:
        """Tell all who listen in this process; returns how many there are."""
        for queue in waiting:
            queue.put_nowait(text)
        return len(waiting)


@strawberry.type
class Subscription:
    """What is told."""

    @strawberry.subscription
    async def said(self) -> AsyncGenerator[str, None]:
        """All that is said from now on."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        waiting.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            waiting.discard(queue)


app = GraphQL(strawberry.Schema(Query, Mutation, Subscription))
