"""Behind real proxies: HAProxy and nginx put many clients' requests on few kept connections."""

from __future__ import annotations

import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from twisted.trial.unittest import SkipTest

from tests import certificates
from tests.integration.cluster import Cluster, ClusterTestCase
from tests.integration.proxies import ABSENT, HAPROXY_HTTP, HAPROXY_TCP, NGINX_HTTP, Proxy
from tests.integration.rawhttp import Connection, payload, sha256
from tests.integration.rawhttp import request as raw

MIB = 1 << 20


def need(proxy: str) -> None:
    """Skips the test if the proxy is not installed."""
    if proxy in ABSENT:
        raise SkipTest(ABSENT[proxy])


def told(answer: requests.Response) -> dict[str, Any]:
    """What the echo application said."""
    assert answer.status_code == 200, (answer.status_code, answer.text[:500])
    said: dict[str, Any] = answer.json()
    said["worker"] = int(said["worker"])
    return said


class Shared:
    """What is true behind any proxy that shares its connections among clients."""

    cluster: Cluster

    def alternate(self, base: str, times: int, **options: Any) -> None:
        """Each client's requests reach its own worker, whichever connection carries them."""
        tags = self.cluster.tags()

        def client(number: int) -> None:
            with requests.Session() as session:
                for turn in range(times):
                    slot = (number + turn) % len(tags) + 1
                    body = payload([0, 100, 70_000][turn % 3], number)
                    said = told(
                        session.post(
                            f"{base}/?EIO=4&sid={tags[slot]}&n={turn}",
                            data=body,
                            timeout=60,
                            **options,
                        )
                    )
                    assert said["worker"] == slot, (said["worker"], slot)
                    assert said["sha256"] == sha256([body]), (number, turn)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(client, range(8)))

    def upload(self, url: str, size: int, **options: Any) -> None:
        """A multipart form arrives whole."""
        data = payload(size, 7)
        answer = requests.post(
            url,
            files={"file": ("report.bin", data)},
            data={"note": "ä note"},
            timeout=60,
            **options,
        )
        assert answer.status_code == 200, answer.text[:300]
        assert answer.json()["sha256"] == sha256([data])
        assert answer.json()["note"] == "ä note"


class WithHAProxy(Shared, ClusterTestCase):
    """HAProxy reaches the cluster from 127.0.0.9, which alone is trusted."""

    workers = 3

    def setUp(self) -> None:
        need("haproxy")
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def proxy(self, configuration: str, server: str, tls: bool = False, port: int = 0) -> Proxy:
        """HAProxy before the cluster, or before another port."""
        return Proxy(
            "haproxy",
            configuration,
            cluster=port or self.cluster.port,
            server=f"source 127.0.0.9 {server}",
            tls=f"ssl crt {self.certificate()}" if tls else "",
        )

    def certificate(self) -> Path:
        """A certificate with its key in one file, as HAProxy wants it."""
        pair = certificates.pair(self.folder, "localhost")
        combined = self.folder / "both.pem"
        combined.write_bytes(Path(pair.certificate).read_bytes() + Path(pair.key).read_bytes())
        return combined


class BehindHAProxy(WithHAProxy):
    """TLS ended by HAProxy, which shares its connections among clients (`http-reuse always`)."""

    options = ("--forwarded-allow-ips", "127.0.0.9")

    def test_alternating_clients(self) -> None:
        """Requests of many clients on shared connections reach the worker of each."""
        with self.proxy(HAPROXY_HTTP, "", tls=True) as proxy:
            self.alternate(f"https://127.0.0.1:{proxy.port}", 12, verify=False)

    def test_the_client_is_named(self) -> None:
        """The application sees the client that HAProxy names, not what the client says itself."""
        with (
            self.proxy(HAPROXY_HTTP, "") as proxy,
            Connection(proxy.port, source="127.0.0.5") as client,
        ):
            answer = client.ask(raw("GET", "/", headers=[("X-Forwarded-For", "192.0.2.7")]))
        self.assertTrue(json.loads(answer.body)["peer"].startswith("127.0.0.5"), answer.body)

    def test_big_upload(self) -> None:
        """32 MiB arrive whole through TLS, HAProxy and the cluster."""
        data = payload(32 * MIB, 3)
        with self.proxy(HAPROXY_HTTP, "", tls=True) as proxy:
            url = f"https://127.0.0.1:{proxy.port}/?sid={self.cluster.tag(2)}"
            said = told(requests.post(url, data=data, verify=False, timeout=60))
        self.assertEqual((said["worker"], said["sha256"]), (2, sha256([data])))

    def test_balancer_of_bytes(self) -> None:
        """Through a balancer of bytes a request reaches the worker of its session."""
        with self.proxy(HAPROXY_TCP, "") as proxy, Connection(proxy.port) as client:
            said = json.loads(client.ask(raw("GET", f"/?sid={self.cluster.tag(1)}")).body)
        self.assertEqual(said["worker"], "1")


class BehindProxyProtocol(WithHAProxy):
    """HAProxy names the client by `send-proxy` and `send-proxy-v2`."""

    options = ("--proxy-protocol", "--forwarded-allow-ips", "127.0.0.9")

    def test_alternating_clients(self) -> None:
        """The PROXY header stays with the connection when it moves between workers."""
        for server in ("send-proxy", "send-proxy-v2"):
            with self.proxy(HAPROXY_HTTP, server, tls=True) as proxy:
                self.alternate(f"https://127.0.0.1:{proxy.port}", 6, verify=False)

    def test_the_peer_is_the_client(self) -> None:
        """Through a balancer of bytes the peer is the client's own address and port, always."""
        tags = self.cluster.tags()
        for server in ("send-proxy", "send-proxy-v2"):
            with (
                self.proxy(HAPROXY_TCP, server) as proxy,
                Connection(proxy.port, source="127.0.0.6") as client,
            ):
                host, port = client.socket.getsockname()
                for turn in range(9):
                    slot, body = turn % 3 + 1, payload(turn * 3000, turn)
                    answer = client.ask(raw("POST", f"/?sid={tags[slot]}", body=body))
                    said = json.loads(answer.body)
                    self.assertEqual(
                        (int(said["worker"]), said["sha256"], said["peer"]),
                        (slot, sha256([body]), f"{host}:{port}"),
                    )

    def test_missing_header(self) -> None:
        """A trusted peer that does not begin with a PROXY header is refused."""
        with self.proxy(HAPROXY_TCP, "") as proxy, Connection(proxy.port) as client:
            self.assertEqual(client.ask(raw("GET", "/")).status, 400)


class ReportedSetUp(WithHAProxy):
    """The reporter's own: browser, HAProxy that ends TLS, a balancer of bytes, the cluster."""

    app = "flask"
    options = ("--factory",)
    probe = "/echo"

    def test_form_through_two_balancers(self) -> None:
        """Multipart uploads of 8 KiB to 8 MiB arrive whole, three times each."""
        with (
            self.proxy(HAPROXY_TCP, "") as tcp,
            self.proxy(HAPROXY_HTTP, "", tls=True, port=tcp.port) as front,
        ):
            for size in (8 << 10, 32 << 10, 256 << 10, 512 << 10, MIB, 8 * MIB):
                for _ in range(3):
                    self.upload(f"https://127.0.0.1:{front.port}/upload", size, verify=False)


class BehindNginx(Shared, ClusterTestCase):
    """nginx with kept upstream connections."""

    workers = 3
    options = ("--forwarded-allow-ips", "127.0.0.1")

    def setUp(self) -> None:
        need("nginx")
        super().setUp()

    def proxy(self, buffering: str = "on") -> Proxy:
        """nginx before the cluster."""
        return Proxy("nginx", NGINX_HTTP, cluster=self.cluster.port, buffering=buffering)

    def test_alternating_clients(self) -> None:
        """Requests of many clients on kept upstream connections reach the worker of each."""
        with self.proxy() as proxy:
            self.alternate(f"http://127.0.0.1:{proxy.port}", 12)

    def test_uploads_unbuffered(self) -> None:
        """Bodies that nginx passes on as they come arrive whole at their worker."""
        with self.proxy("off") as proxy:
            self.alternate(f"http://127.0.0.1:{proxy.port}", 6)
            data = payload(16 * MIB, 5)
            said = told(
                requests.post(
                    f"http://127.0.0.1:{proxy.port}/?sid={self.cluster.tag(3)}",
                    data=data,
                    timeout=60,
                )
            )
        self.assertEqual((said["worker"], said["sha256"]), (3, sha256([data])))

    def test_the_client_is_named(self) -> None:
        """The application sees the address that nginx names."""
        with self.proxy() as proxy:
            said = told(
                requests.get(
                    f"http://127.0.0.1:{proxy.port}/",
                    headers={"X-Forwarded-For": "198.51.100.4"},
                    timeout=60,
                )
            )
        # nginx adds the address that it saw, 127.0.0.1; that one is trusted here.
        self.assertTrue(said["peer"].startswith("198.51.100.4"), said["peer"])


class Untrusting(ClusterTestCase):
    """Without the options no peer may name the client."""

    def test_forwarded_for_is_not_believed(self) -> None:
        """X-Forwarded-For from a peer that is not trusted changes nothing."""
        headers = (("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"))
        said = json.loads(self.cluster.get("/", *headers).body)
        self.assertTrue(said["peer"].startswith("127.0.0.1"), said["peer"])

    def test_proxy_header_is_refused(self) -> None:
        """A PROXY header on a port that does not expect one is 400."""
        with Connection(self.cluster.port) as client:
            client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + raw("GET", "/"))
            self.assertEqual(client.response().status, 400)
