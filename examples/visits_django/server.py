"""Visits counted in memory, with Django in one file.

    twist txsticky --workers 4 --sticky cookie:visitor server:application

Each visitor gets a cookie from the application, and its value carries the tag of the worker that
counts. No database, no cache, and no session back end is asked.
"""

from __future__ import annotations

import os
import secrets

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import txsticky

COOKIE = "visitor"
visits: dict[str, int] = {}


def page(request: HttpRequest) -> JsonResponse:
    visitor = request.COOKIES.get(COOKIE, "")
    fresh = visitor not in visits
    if fresh:
        here = txsticky.current()
        ident = secrets.token_hex(8)
        visitor = here.mint(ident) if here is not None else ident
    visits[visitor] = visits.get(visitor, 0) + 1
    worker = os.environ.get("TXSTICKY_WORKER", "alone")
    response = JsonResponse({"worker": worker, "visits": visits[visitor]})
    if fresh:
        response.set_cookie(COOKIE, visitor, httponly=True, samesite="Lax")
    return response


urlpatterns = [path("", page)]
settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(32),  # nothing is signed with it
)
application = get_wsgi_application()
