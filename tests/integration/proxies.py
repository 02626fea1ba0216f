"""Real HAProxy and nginx in front of a cluster, as processes with configurations of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.cluster import free_port
from tests.integration.processes import until

PROXIES = {
    name: shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    for name in ("haproxy", "nginx")
}
ABSENT = {
    name: f"{name} is not installed (apt-get install {name})"
    for name, path in PROXIES.items()
    if path is None
}


class Proxy:
    """A proxy process in a folder of its own. A context manager.

    :param name: `haproxy` or `nginx`.
    :param configuration: its configuration; `{port}` is where it has to listen, `{folder}` its
        folder, and every other name in braces one of `names`.
    """

    def __init__(self, name: str, configuration: str, **names: object) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"txsticky-{name}-"))
        self._name = name
        text = configuration
        for key, value in {
            "port": self.port,
            "folder": self.folder,
            "user": getpass.getuser(),  # the folder is ours alone
            **names,
        }.items():
            text = text.replace("{" + key + "}", str(value))
        self._file = self.folder / f"{name}.conf"
        self._file.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        path = PROXIES[self._name]
        assert path is not None
        foreground = {
            "haproxy": ["-db", "-f", str(self._file)],
            "nginx": ["-e", "stderr", "-g", "daemon off;", "-c", str(self._file)],
        }[self._name]
        log = open(self.folder / "log", "wb")
        self._process = subprocess.Popen([path, *foreground], stdout=log, stderr=log)
        log.close()
        try:
            until(self._listens, 15, f"{self._name} listens")
        except BaseException as error:
            error.add_note((self.folder / "log").read_text())
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note((self.folder / "log").read_text()[-4000:])
        self.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it, and take its folder away."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


#: TLS ended here; many clients' requests on few connections; the client named by PROXY v2.
HAPROXY_HTTP = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port} {tls}
    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    default_backend cluster
backend cluster
    server one 127.0.0.1:{cluster} {server}
"""

#: A balancer that sees nothing but bytes, in front of the cluster.
HAPROXY_TCP = """
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen through
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{cluster} {server}
"""

#: Upstream connections are kept, and carry many clients' requests.
NGINX_HTTP = """
worker_processes 1;
user {user};
pid {folder}/nginx.pid;
events { worker_connections 1024; }
http {
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream cluster {
        server 127.0.0.1:{cluster};
        keepalive 4;
    }
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    server {
        listen 127.0.0.1:{port};
        location / {
            proxy_pass http://cluster;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering {buffering};
        }
    }
}
"""
