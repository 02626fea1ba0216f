"""A form upload that Flask parses and answers with the file's size and sha256.

    twist txsticky --workers 4 server:app
    curl -F file=@server.py http://localhost:8080/

The file reaches the worker byte for byte, however large it is and however the client sends it.
"""

from __future__ import annotations

import hashlib
import os

from flask import Flask, request

app = Flask(__name__)

PAGE = """<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Upload</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: auto; padding: 1rem }
</style>
<h1>Upload</h1>
<form method="post" enctype="multipart/form-data">
  <p><label>File: <input type="file" name="file" required></label> <button>Upload</button></p>
</form>
</html>
"""


@app.get("/")
def page() -> str:
    return PAGE


@app.post("/")
def upload() -> dict[str, object] | tuple[dict[str, object], int]:
    file = request.files.get("file")
    if file is None:
        return {"error": "send the file as the form field 'file'"}, 400
    size, digest = 0, hashlib.sha256()
    while piece := file.stream.read(1 << 20):
        size += len(piece)
        digest.update(piece)
    return {
        "worker": os.environ.get("TXSTICKY_WORKER", "alone"),
        "name": file.filename,
        "size": size,
        "sha256": digest.hexdigest(),
    }
