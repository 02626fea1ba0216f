"""Buildbot's web part: a master in each worker, which has its folder in $BUILDBOT_FOLDER."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from buildbot.config.master import FileLoader
from buildbot.master import BuildMaster
from twisted.internet import reactor
from twisted.web.resource import IResource
from twisted.web.server import Site

CONFIG = """
from buildbot.plugins import schedulers, util, worker
c = BuildmasterConfig = {"buildbotNetUsageData": None}
c["workers"] = [worker.Worker("none", "secret")]
c["protocols"] = {"pb": {"port": "tcp:0:interface=127.0.0.1"}}
c["builders"] = [util.BuilderConfig("count", workernames=["none"], factory=util.BuildFactory())]
c["schedulers"] = [schedulers.ForceScheduler("force", ["count"])]
c["title"] = "A master"
c["titleURL"] = "http://127.0.0.1/"
c["buildbotURL"] = "http://127.0.0.1/"
c["db"] = {"db_url": "sqlite:///state.sqlite"}
c["www"] = {"port": "tcp:0:interface=127.0.0.1", "allowed_origins": ["*"]}
"""


def folder() -> Path:
    """The folder of this worker's master."""
    return Path(os.environ["BUILDBOT_FOLDER"], os.environ.get("TXSTICKY_WORKER", "0"))


class MasterSite(Site):
    """The site of a master, which is there when the master has started."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        base = str(folder())
        loader = FileLoader(base, "master.cfg")
        self.master: Any = BuildMaster(base, reactor=reactor, config_loader=loader)

    def startFactory(self) -> None:
        """Start the master."""
        super().startFactory()
        self.master.startService()

    def stopFactory(self) -> None:
        """Stop it."""
        super().stopFactory()
        self.master.stopService()

    def getResourceFor(self, request: Any) -> IResource:
        """Have the master's own site find it."""
        request.site = site = self.master.www.site
        found: IResource = site.getResourceFor(request)
        return found


def site() -> MasterSite:
    """The site."""
    return MasterSite()
