"""A cluster that ends TLS, and TLS connections to it."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from pathlib import Path
from typing import Any

from tests.certificates import Pair, pair
from tests.integration.cluster import POOL, Cluster
from tests.integration.rawhttp import Connection

APPS = "tests.integration.secure_apps"
NAME = "cluster.test"


class SecureCluster(Cluster):
    """
    A cluster with certificates of its own.

    :ivar papers: the folder in which they are.
    :ivar pairs: the certificates, by their first name.
    """

    def __init__(
        self,
        app: str,
        *options: str,
        names: tuple[tuple[str, ...], ...] = ((NAME, "localhost"),),
        workers: int = 2,
        probe: str = POOL,
        environment: dict[str, str] | None = None,
    ) -> None:
        """
        :param app: as for `Cluster`; a colon before a name means one of `secure_apps`.
        :param names: the DNS names of each certificate.
        """
        self.papers = Path(tempfile.mkdtemp(prefix="txsticky-tls-"))
        self.pairs: dict[str, Pair] = {each[0]: pair(self.papers, *each) for each in names}
        tls = [
            argument
            for each in self.pairs.values()
            for argument in ("--tls-cert", each.certificate, "--tls-key", each.key)
        ]
        target = APPS + app if app.startswith(":") else app
        options = (*tls, *options)
        super().__init__(target, *options, workers=workers, probe=probe, environment=environment)

    def context(self) -> ssl.SSLContext:
        """A client's, which trusts these certificates alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for each in self.pairs.values():
            context.load_verify_locations(each.certificate)
        return context

    def connect(
        self, *, name: str = NAME, context: ssl.SSLContext | None = None, **options: Any
    ) -> Connection:
        """A new connection over TLS; the options are those of `Connection`."""
        plain = Connection(self.port, **options).socket
        timeout = plain.gettimeout()
        try:
            secured = (context or self.context()).wrap_socket(
                plain, server_hostname=name, suppress_ragged_eofs=False
            )
        except BaseException:
            plain.close()
            raise
        connection = Connection.over(secured)
        secured.settimeout(timeout)
        return connection

    def plain(self, **options: Any) -> Connection:
        """A connection without TLS."""
        return super().connect(**options)

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            shutil.rmtree(self.papers, ignore_errors=True)
