"""Applications that do nothing, for what their start costs."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

#: Each import is written down in this file, if it is named, and takes so many seconds.
RECORD = os.environ.get("BENCHMARK_RECORD")
if RECORD:
    with open(RECORD, "a") as file:
        file.write("imported\n")
    time.sleep(float(os.environ.get("BENCHMARK_IMPORT", "0")))


def site() -> Any:
    """For twisted.web."""
    from twisted.web.resource import Resource

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return b"hello"

    return Hello()


def flask() -> Any:
    """With Flask."""
    from flask import Flask

    app = Flask("hello")
    app.add_url_rule("/", "hello", lambda: "hello")
    return app


def django() -> Any:
    """With Django."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=sys.modules[__name__],
        SECRET_KEY="for the benchmark",
    )
    globals()["urlpatterns"] = [path("", lambda request: HttpResponse("hello"))]
    return get_wsgi_application()
