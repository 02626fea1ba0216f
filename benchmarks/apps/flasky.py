"""A Flask application that says hello."""

from __future__ import annotations

import os

from flask import Flask

app = Flask(__name__)


@app.get("/hello")
def hello() -> dict[str, int]:
    """Which process answers."""
    return {"pid": os.getpid()}
