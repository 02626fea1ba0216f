"""Lists txsticky among the services of ``twist``."""

from twisted.application.service import ServiceMaker

txsticky = ServiceMaker(
    "txsticky",
    "txsticky.cli.command",
    "Serve an application from several processes; each client stays with its own.",
    "txsticky",
)
