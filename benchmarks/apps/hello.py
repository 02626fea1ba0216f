"""A FastAPI application that says hello."""

from __future__ import annotations

import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/hello")
async def hello() -> dict[str, int]:
    """Which process answers."""
    return {"pid": os.getpid()}
