"""Panel, which is Bokeh: a count in the objects of a session."""

from __future__ import annotations

import os

import panel as pn
from fastapi import FastAPI
from panel.io.fastapi import add_application

app = FastAPI()


@add_application("/page", app=app, title="count")
def page() -> pn.Column:
    """Make one page for each session."""
    count = 0
    text = pn.pane.Str(f"0 {os.getpid()}")
    button = pn.widgets.Button(name="More")

    def more(_: object) -> None:
        nonlocal count
        count += 1
        text.object = f"{count} {os.getpid()}"

    button.on_click(more)
    return pn.Column(button, text)
