"""Gradio: state, a queue with a generator, an upload, and what `gr.render` draws."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from fastapi import FastAPI


def more(count: int) -> tuple[int, str]:
    """Count in the session's state."""
    return count + 1, f"{count + 1} {os.getpid()}"


def slow() -> Iterator[str]:
    """Tell how far it is, through the queue."""
    for step in range(1, 4):
        time.sleep(0.2)
        yield f"step {step} {os.getpid()}"


def size(path: str) -> str:
    """Tell the size of what was uploaded."""
    return f"uploaded {Path(path).stat().st_size} {os.getpid()}"


with gr.Blocks() as blocks:
    state = gr.State(0)
    told = gr.Textbox(elem_id="told", label="told")
    gr.Button("More", elem_id="more").click(more, state, [state, told], api_name="more")
    gr.Button("Slow", elem_id="slow").click(slow, None, told, api_name="slow")
    file = gr.File(elem_id="file", label="file")
    file.upload(size, file, told, api_name="size")

    @gr.render(inputs=told)
    def drawn(text: str) -> None:
        """Draw what was told once more."""
        gr.Textbox(f"drawn {text}", elem_id="drawn", label="drawn")


app = gr.mount_gradio_app(FastAPI(), blocks, path="/")
