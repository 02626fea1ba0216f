"""The chat of Chainlit: it counts the messages of a session."""

from __future__ import annotations

import os

import chainlit


@chainlit.on_chat_start
async def start() -> None:
    """A chat begins."""
    chainlit.user_session.set("count", 0)
    await chainlit.Message(content=f"0 {os.getpid()}").send()


@chainlit.on_message
async def message(message: chainlit.Message) -> None:
    """A message has come."""
    count = chainlit.user_session.get("count") + 1
    chainlit.user_session.set("count", count)
    await chainlit.Message(content=f"{count} {os.getpid()}").send()
