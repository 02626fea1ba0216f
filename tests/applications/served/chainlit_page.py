"""Chainlit, mounted in a FastAPI application."""

from __future__ import annotations

from pathlib import Path

from chainlit.utils import mount_chainlit
from fastapi import FastAPI

app = FastAPI()
mount_chainlit(app, str(Path(__file__).with_name("chainlit_script.py")), path="/chat")
