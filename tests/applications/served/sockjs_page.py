"""SockJS in Django Channels: a page whose session counts, by the transport that is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path
from sockjs import MSG_MESSAGE, MSG_OPEN, make_routing

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests")
django.setup()

PAGE = """<!doctype html><title>SockJS</title>
<script src="/client.js"></script>
<p id="count"></p><button id="more">More</button>
<script>
const transports = [new URLSearchParams(location.search).get("transport")];
let socket;
function connect() {
  socket = new SockJS("/sockjs", null, {transports});
  socket.onmessage = message => { document.querySelector("#count").textContent = message.data; };
  socket.onclose = () => setTimeout(connect, 500);
}
connect();
document.querySelector("#more").onclick = () => socket.send("more");
</script>"""


def page(request: HttpRequest) -> HttpResponse:
    """The page."""
    return HttpResponse(PAGE)


def client(request: HttpRequest) -> HttpResponse:
    """SockJS's own client."""
    code = Path(os.environ["SOCKJS_CLIENT"]).read_text()
    return HttpResponse(code, content_type="text/javascript")


async def heard(message: Any, session: Any) -> None:
    """Count the messages of a session, in its own object."""
    if message.type == MSG_OPEN:
        session.count = 0
    elif message.type == MSG_MESSAGE:
        session.count += 1
    if message.type in (MSG_OPEN, MSG_MESSAGE):
        session.send(f"{session.count} {os.getpid()}")


urlpatterns = [path("", page), path("client.js", client)]
routing = make_routing(heard, name="count")
app = ProtocolTypeRouter(
    {
        "http": URLRouter([*routing.http, re_path(r"", get_asgi_application())]),
        "websocket": URLRouter(routing.websocket),
    }
)
