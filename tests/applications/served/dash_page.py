"""Dash: callbacks that keep a count in the memory of their process."""

from __future__ import annotations

import base64
import os
import uuid
from collections import Counter

from dash import Dash, Input, Output, State, dcc, html

page = Dash(__name__)
app = page.server
counts: Counter[str] = Counter()


def layout() -> html.Div:
    """A page of its own for each client."""
    session = uuid.uuid4().hex
    counts[session] = 0
    return html.Div(
        [
            dcc.Store(id="session", data=session),
            html.Button("More", id="more"),
            html.Div(f"0 {os.getpid()}", id="count"),
            dcc.Upload(html.Button("Upload"), id="upload"),
            html.Div(id="uploaded"),
        ]
    )


page.layout = layout


@page.callback(
    Output("count", "children"),
    Input("more", "n_clicks"),
    State("session", "data"),
    prevent_initial_call=True,
)
def more(clicks: int, session: str) -> str:
    """Count the clicks of a page, which another process does not know."""
    if session not in counts:
        return f"lost {os.getpid()}"
    counts[session] += 1
    return f"{counts[session]} {os.getpid()}"


@page.callback(
    Output("uploaded", "children"), Input("upload", "contents"), prevent_initial_call=True
)
def uploaded(contents: str) -> str:
    """Tell the size of what was uploaded."""
    return f"uploaded {len(base64.b64decode(contents.partition(',')[2]))} {os.getpid()}"
