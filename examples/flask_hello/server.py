"""A Flask application that keeps its visitors' notes in memory.

    twist txsticky --workers 4 --sticky insert:worker server:app
    curl -c jar -b jar -d note=milk http://localhost:8080/
    curl -c jar -b jar http://localhost:8080/

The notes are there at the next visit, because the cookie that txsticky inserted leads to the worker
that has them.
"""

from __future__ import annotations

import os
import secrets
from collections import defaultdict

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
notes: defaultdict[str, list[str]] = defaultdict(list)


@app.route("/", methods=["GET", "POST"])
def visit() -> Response:
    visitor = request.cookies.get("visitor") or secrets.token_urlsafe(8)
    if request.method == "POST":
        notes[visitor].append(request.form["note"])
    worker = os.environ.get("TXSTICKY_WORKER", "alone")
    response = jsonify(worker=worker, notes=notes[visitor])
    response.set_cookie("visitor", visitor)
    return response
