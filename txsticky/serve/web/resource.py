"""Serve a twisted.web Resource."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import IResource

from ...core.http.inside import Inside
from ...errors import AppLoadError
from .. import ServeSettings
from ..accesslog import access_log_for
from ..loading import describe
from ..protocol import FactoryServing
from .site import StickySite


def serving(app: object, settings: ServeSettings, reactor: Any) -> FactoryServing:
    """
    Serve a twisted.web Resource as `twist web` does.

    :raises AppLoadError: the application is not a Resource.
    """
    if not IResource.providedBy(app):
        raise AppLoadError(
            target=describe(app), reason="with --interface=web it has to be a twisted.web Resource"
        )
    log = access_log_for(settings, reactor)
    site = StickySite(app, settings, log, reactor)
    inside = Inside(absolute=False)
    return FactoryServing("web", site, http=True, events=True, inside=inside, access_log=log)
