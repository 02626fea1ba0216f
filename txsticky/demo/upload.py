"""The demo's upload: the worker tells the size and the sha256 of what arrived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, cast

from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from .here import Place

PIECE = 1 << 20  # bytes read at once


def measure(content: BinaryIO) -> tuple[int, str]:
    """Return the size in bytes and the sha256 in hex of the rest of `content`."""
    size, digest = 0, hashlib.sha256()
    while piece := content.read(PIECE):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def uploaded(request: Request) -> BinaryIO:
    """
    Return the bytes of the upload: the body, or of a posted form the part `file`.

    :param request: the request.
    :raises ValueError: the form has no such part.
    """
    kind = request.getHeader("content-type") or ""
    if request.method != b"POST" or not kind.lower().startswith("multipart/form-data"):
        return cast(BinaryIO, request.content)
    parts = request.args.get(b"file")
    if not parts:
        raise ValueError("A form must carry its file in a part that is called 'file'.")
    return BytesIO(parts[0])


class Upload(Resource):
    """
    Takes a file by POST or PUT, as the plain body or as the part `file` of a form.

    twisted.web spools a large body to a temporary file, so that the disk bounds the size of a plain
    body. A form is parsed in memory: for large files, send the plain body (`curl -T`). The digest
    is computed in a thread; meanwhile the worker serves other requests.

    :param place: returns the worker that this process is.
    """

    isLeaf = True

    def __init__(self, place: Callable[[], Place]) -> None:
        Resource.__init__(self)
        self.place = place

    def render_POST(self, request: Request) -> int:
        """Answer with JSON: `worker`, `size` in bytes, `sha256` in hex; or `error` and 400."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(found: dict[str, int | str]) -> None:
            request.setHeader(b"Content-Type", b"application/json")
            request.setHeader(b"Cache-Control", b"no-store")
            body = json.dumps(found).encode() + b"\n"
            request.setHeader(b"Content-Length", b"%d" % len(body))
            request.write(body)
            request.finish()

        def confirm(found: tuple[int, str]) -> None:
            if not gone:
                answer({"worker": self.place().slot, "size": found[0], "sha256": found[1]})

        def broken(failure: Failure) -> None:
            # When the client leaves, twisted.web closes the file that the thread reads.
            if not gone:
                request.processingFailed(failure)

        try:
            content = uploaded(request)
        except ValueError as problem:
            request.setResponseCode(400)
            answer({"error": str(problem)})
        else:
            deferToThread(measure, content).addCallback(confirm).addErrback(broken)
        return NOT_DONE_YET

    render_PUT = render_POST
