"""Django Channels: a room, which is a group of txsticky's channel layer."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for tests",
    CHANNEL_LAYERS={"default": {"BACKEND": "txsticky.channels.ChannelLayer"}},
)
django.setup()
urlpatterns: list[Any] = []


class Room(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no type hints
    """Tells all what one says, and where each of them is."""

    groups: ClassVar[list[str]] = ["room"]

    async def receive(self, text_data: str = "", bytes_data: bytes = b"") -> None:
        """Say it to the room."""
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, str]) -> None:
        """Hear what the room says."""
        await self.send(text_data=f"{event['text']} {os.getpid()}")


app = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Room.as_asgi())])}
)
