"""A chat room by Django Channels that spans the workers, without Redis.

    twist txsticky --workers 4 server:app

Open http://localhost:8080/ in several tabs: they meet different workers, and hear each other, for
what one says is published on the cluster's bus.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import txsticky

WORKER = os.environ.get("TXSTICKY_WORKER", "alone")
PAGE = Path(__file__).with_name("index.html")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="only an example")
django.setup()


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE.read_text())


class Room(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        # The bus calls; what it starts has to be kept, or Python might forget it.
        self.sending: set[asyncio.Task[None]] = set()
        self.leave = txsticky.current().subscribe("room", self.hear)

    async def disconnect(self, code: int) -> None:
        self.leave()

    async def receive(self, text_data: str = "", bytes_data: bytes = b"") -> None:
        txsticky.current().publish("room", f"worker {WORKER}: {text_data}".encode())

    def hear(self, message: bytes) -> None:
        task = asyncio.create_task(self.send(text_data=message.decode()))
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)


urlpatterns = [path("", page)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws", Room.as_asgi())]),
    }
)
