"""
The usual way of a twisted.web request, in one go: received, rendered to bytes, written, finished.

A request whose class leaves these steps to `twisted.web.server.Request` is taken through them here:
to the same end, with what repeats from one request to the next remembered. Whatever is out of the
ordinary is left to the request's own methods. The names with an underscore are the request's.
"""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

import functools
import operator
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.error import UnsupportedMethod
from twisted.web.http import NO_BODY_CODES, parse_qs
from twisted.web.http import Request as Base
from twisted.web.resource import _IEncodingResource, getChildForRequest
from twisted.web.server import NOT_DONE_YET, Request

from ...core.memo import entries
from ...system.system import http_date
from .fields import ParsedHeaders, head_of

#: Targets and Cookie lines that are longer are taken apart each time.
_REMEMBERED = 1024
_MEMORY = entries(1024, _REMEMBERED)
#: The steps that are taken here, as twisted.web has them.
_steps_of = operator.attrgetter(
    "requestReceived", "process", "render", "write", "finish", "setHeader"
)
_base_steps_of = operator.attrgetter("write", "finish")
_STEPS = _steps_of(Request)
_BASE_STEPS = _base_steps_of(Base)
_PARSE_COOKIES = Request.parseCookies
_FIND = server.Site.getResourceFor
#: Whether they are, and no instrument has put others in their place before.
_ORIGINAL = {
    getattr(getattr(method, "__code__", None), "co_filename", None)
    for method in (*_STEPS, *_BASE_STEPS, _PARSE_COOKIES, _FIND)
} <= {server.__file__, http.__file__}
_METHODS = frozenset({b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})

Arguments = tuple[tuple[bytes, tuple[bytes, ...]], ...]


class Responder(Protocol):
    """What of the request's channel is needed here."""

    site: Any

    def begin_response(self, head: bytes, length: int | None) -> None:
        """Begin a response."""

    def write(self, data: bytes) -> None:
        """Write a part of the response."""


def receive(request: Any, channel: Responder, method: bytes, target: bytes, version: bytes) -> None:
    """
    Do what `Request.requestReceived` does.

    :param request: a request that is here whole.
    :param channel: the request's.
    """
    headers = request.responseHeaders
    usual = method in _METHODS and target != b"*" and headers.__class__ is ParsedHeaders
    if not (usual and _leaves_it(request.__class__)):
        request.requestReceived(method, target, version)
        return
    request.content.seek(0, 0)
    request.method, request.uri, request.clientproto = method, target, version
    take = _target if len(target) <= _REMEMBERED else _target.__wrapped__
    request.path, arguments, segments = take(target)
    request.args = {name: [*values] for name, values in arguments}
    request.site = site = channel.site
    raw = headers._rawHeaders
    raw[b"Server"] = [server.version]
    raw[b"Date"] = [http_date().encode()]
    request.prepath = []
    request.postpath = [*segments]
    try:
        if getattr(site.getResourceFor, "__func__", None) is _FIND:
            request.sitepath = []
            found = getChildForRequest(site.resource, request)
        else:
            found = site.getResourceFor(request)
        if _IEncodingResource.providedBy(found):
            encoder = found.getEncoder(request)
            if encoder is not None:
                request._encoder = encoder
        _render(request, channel, found)
    except BaseException:
        request.processingFailed(Failure())


def parse_cookies(request: Any) -> None:
    """Do what `Request.parseCookies` does."""
    headers = request.requestHeaders
    left = request.__class__.parseCookies is _PARSE_COOKIES and _ORIGINAL
    if not left or headers.__class__ is not ParsedHeaders:
        request.parseCookies()
        return
    for text in headers._rawHeaders.get(b"Cookie", ()):
        take = _cookies if len(text) <= _REMEMBERED else _cookies.__wrapped__
        request.received_cookies.update(take(text))


def _leaves_it(kind: type) -> bool:
    """Whether a class of requests, and whatever was done to its bases, leaves all steps to us."""
    return _ORIGINAL and _steps_of(kind) == _STEPS and _base_steps_of(Base) == _BASE_STEPS


def _render(request: Any, channel: Responder, found: Any) -> None:
    try:
        body = found.render(request)
    except UnsupportedMethod as error:
        request.render(_Rendered(found, error=error))
        return
    if body is NOT_DONE_YET:
        return
    if body.__class__ is bytes and _is_plain(request, channel):
        _answer(request, channel, body)
    else:
        request.render(_Rendered(found, body))


def _is_plain(request: Any, channel: Responder) -> bool:
    """Whether nothing is to be done to a response but to write it."""
    own = request.__dict__
    return not (
        "write" in own
        or "finish" in own
        or "setHeader" in own
        or request.startedWriting
        or request.finished
        or request.queued
        or request._encoder
        or request.cookies
        or request.etag is not None
        or request.lastModified is not None
        or request.channel is not channel
        or request.responseHeaders.__class__ is not ParsedHeaders
        or request.method not in _METHODS
        or request.code in NO_BODY_CODES
    )


def _answer(request: Any, channel: Responder, body: bytes) -> None:
    """Do what `setHeader` for the Content-Length, `write` and `finish` do."""
    headers, size = request.responseHeaders, len(body)
    raw = headers._rawHeaders
    raw[b"Content-Length"] = [b"%d" % size]
    kind = request.defaultContentType
    if size and kind is not None and not raw.get(b"Content-Type"):
        headers.setRawHeaders(b"Content-Type", [kind])
    request.startedWriting = 1
    code = b"%d" % request.code
    head = head_of(request.clientproto, code, request.code_message, headers)
    channel.begin_response(head, size)
    request.sentLength = size
    channel.write(body)
    channel.site.log(request)
    request.finished = 1
    request._cleanup()


class _Rendered:
    """
    A resource that has been rendered (`IResource`, as far as `Request.render` needs it).

    :param resource: it.
    :param body: what it has returned.
    :param error: what it has raised.
    """

    def __init__(self, resource: Any, body: Any = None, error: Exception | None = None) -> None:
        self._resource = resource
        self._body = body
        self._error = error

    def render(self, request: Any) -> Any:
        """Do again what the resource did."""
        if self._error is not None:
            raise self._error
        return self._body

    def __repr__(self) -> str:
        return repr(self._resource)


@functools.lru_cache(_MEMORY)
def _target(target: bytes) -> tuple[bytes, Arguments, tuple[bytes, ...]]:
    """Take a target apart: its path, its arguments, and the path's segments decoded."""
    path, found, query = target.partition(b"?")
    arguments = parse_qs(query, 1) if found else {}
    segments = tuple(map(unquote_to_bytes, path[1:].split(b"/")))
    return path, tuple((name, tuple(values)) for name, values in arguments.items()), segments


@functools.lru_cache(_MEMORY)
def _cookies(text: bytes) -> dict[bytes, bytes]:
    """Take a Cookie line apart."""
    pairs = (piece.lstrip().partition(b"=") for piece in text.split(b";"))
    return {name: value for name, found, value in pairs if found}
