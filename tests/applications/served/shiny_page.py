"""Shiny for Python: a count in the session, an upload and a download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from shiny import App, Inputs, Outputs, Session, reactive, render, ui

page = ui.page_fluid(
    ui.input_action_button("more", "More"),
    ui.output_text("count"),
    ui.input_file("file", "File"),
    ui.output_text("uploaded"),
    ui.download_link("download", "Download"),
)


def server(input: Inputs, output: Outputs, session: Session) -> None:
    """One call for each session."""
    clicks = reactive.value(0)

    @reactive.effect
    @reactive.event(input.more)
    def _() -> None:
        clicks.set(clicks.get() + 1)

    @render.text
    def count() -> str:
        return f"{clicks.get()} {os.getpid()}"

    @render.text
    def uploaded() -> str:
        files = input.file()
        return f"uploaded {Path(files[0]['datapath']).stat().st_size}" if files else ""

    @render.download(filename="pid.txt")
    def download() -> Iterator[str]:
        yield f"{clicks.get()} {os.getpid()}"


app = App(page, server)
