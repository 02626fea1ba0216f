"""
What handshakes of TLS cost a server: full ones, and those that resume a session.

The workers of a cluster are measured with connections of one request each, less what the same
connections cost without TLS; and OpenSSL alone, by pyOpenSSL, with nothing around it: how much
cheaper a resumed handshake can be. In TLS 1.3 one has new keys agreed on too, whatever it resumes
(RFC 8446, section 2.2): with an EC certificate that is most of what a full one costs.
"""

from __future__ import annotations

import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from tests.certificates import Key, key_pem, new_key, self_signed
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import request
from tests.integration.secure import NAME, SecureCluster

from . import measure

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
_ASK = request("GET", "/", headers=[("Connection", "close")])


def connections(
    cluster: Cluster, count: int, context: ssl.SSLContext | None = None, resume: bool = False
) -> tuple[float, int]:
    """
    Make connections of one request each.

    :param context: of a client that speaks TLS.
    :returns: microseconds of the workers' CPU for each, and how many have resumed a session.
    """
    session, resumed = None, 0
    before = measure.cpu(cluster.workers().values())
    for number in range(-1, count):
        if not number:  # the one before has brought the session
            resumed, before = 0, measure.cpu(cluster.workers().values())
        sock: Any = Cluster.connect(cluster).socket
        if context is not None:
            given = session if resume else None
            sock = context.wrap_socket(sock, server_hostname=NAME, session=given)
        with sock:
            sock.sendall(_ASK)
            while sock.recv(65536):
                pass
            if context is not None:
                resumed += bool(sock.session_reused)
                session = sock.session
    return (measure.cpu(cluster.workers().values()) - before) / count, resumed


def of_workers(target: str, count: int = 300) -> Iterator[tuple[str, float, float, float]]:
    """
    Measure three workers.

    :returns: the version; resumed connections in percent; microseconds of CPU of a full handshake
        and of a resumed one.
    """
    options: Any = {"workers": 3, "probe": "/"}
    with Cluster(target, "--factory", **options) as cluster:
        until(lambda: cluster.log().count("is ready.") >= 3, 60)
        plain, _ = connections(cluster, count)
    with SecureCluster(target, "--factory", **options) as secure:
        until(lambda: secure.log().count("is ready.") >= 3, 60)
        for version in VERSIONS:
            context = secure.context()
            context.minimum_version = context.maximum_version = version
            full, _ = connections(secure, count, context)
            again, resumed = connections(secure, count, context, resume=True)
            yield version.name, 100 * resumed / count, full - plain, again - plain


def of_openssl(count: int = 300) -> Iterator[tuple[str, float, float]]:
    """
    Measure OpenSSL alone: the median of a server's CPU, in microseconds.

    :returns: key and version; a full handshake; a resumed one.
    """
    keys: dict[str, Key] = {
        "P-256": new_key(),
        "RSA 2048": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }
    for name, key in keys.items():
        server = _server(key)
        for version in VERSIONS:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
            client.minimum_version = client.maximum_version = version
            costs: dict[bool, list[float]] = {False: [], True: []}
            session = None
            for number in range(2 * count):
                resume = number >= count
                cost, side = _handshake(server, client, session if resume else None)
                costs[resume].append(cost)
                session = side.session
            full, again = (statistics.median(costs[resume]) for resume in (False, True))
            yield f"{name}, {version.name}", full, again


def _server(key: Key) -> SSL.Context:
    with tempfile.TemporaryDirectory() as folder:
        certificate, private = Path(folder, "c.pem"), Path(folder, "k.pem")
        certificate.write_bytes(self_signed(key, NAME))
        private.write_bytes(key_pem(key))
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_file(str(certificate))
        context.use_privatekey_file(str(private))
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"benchmark")
    return context


def _handshake(
    context: SSL.Context, client: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[float, ssl.SSLObject]:
    """Do a handshake in memory; returns the server's microseconds, and the client's side."""
    server = SSL.Connection(context, None)
    server.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = client.wrap_bio(incoming, outgoing, session=session)
    cost = 0
    for _ in range(3):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        sent = outgoing.read()
        began = time.thread_time_ns()
        try:
            server.bio_write(sent)
            server.do_handshake()
        except SSL.WantReadError:
            pass
        else:
            server.send(b"x")  # with it the client takes the tickets
        answer = server.bio_read(65536)
        cost += time.thread_time_ns() - began
        incoming.write(answer)
        try:
            if side.read(1):
                return cost / 1e3, side
        except ssl.SSLWantReadError:
            pass
    raise AssertionError("the handshake does not end")
