"""NiceGUI: a page that counts, in its own objects."""

from __future__ import annotations

import os

from fastapi import FastAPI
from nicegui import events, ui

app = FastAPI()


@ui.page("/")
def page() -> None:
    """One page for each client: a button that counts, and an upload."""
    count = 0
    label = ui.label(f"0 {os.getpid()}").props("id=count")

    def more() -> None:
        nonlocal count
        count += 1
        label.set_text(f"{count} {os.getpid()}")

    async def uploaded(event: events.UploadEventArguments) -> None:
        content = await event.file.read()
        label.set_text(f"uploaded {len(content)} {os.getpid()}")

    ui.button("More", on_click=more).props("id=more")
    ui.upload(auto_upload=True, on_upload=uploaded)


ui.run_with(app)
