"""What Chainlit runs for each chat: it counts the messages in the session."""

from __future__ import annotations

import os

import chainlit as cl


@cl.on_message
async def answer(message: cl.Message) -> None:
    """Tell how many messages there were."""
    count = cl.user_session.get("count", 0) + 1
    cl.user_session.set("count", count)
    await cl.Message(content=f"count={count} pid={os.getpid()}").send()
