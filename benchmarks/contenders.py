"""The contenders: how each is started, which process is its front, which are its workers."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attrs import define

from tests.certificates import pair

from .measure import children, cpu

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Where the npm packages @socket.io/sticky, socket.io and ws are: outside of the tree.
NODE_MODULES = os.environ.get("TXSTICKY_NODE_MODULES", "")
WORKERS = 2
#: Of the servers that run a WSGI application in threads: one for each of the clients.
_THREADS = 16
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


class Missing(Exception):
    """A contender cannot take part; the text says why."""


@define(eq=False)
class Running:
    """A contender that serves: `port`, and the processes of its front and of its workers."""

    name: str
    port: int
    front: list[int]
    workers: list[int]
    #: How a client is told from another: sid, cookie, hash, or none.
    key: str = "none"

    def cpu(self) -> tuple[float, float]:
        """Microseconds that the front and the workers have used."""
        return cpu(self.front), cpu(self.workers)


#: Every process that was started, and every folder that was made, since the last `stop_all`.
_started: list[subprocess.Popen[bytes]] = []
_folders: list[str] = []


def stop_all() -> None:
    """End all contenders, with every process of theirs."""
    for process in _started:
        process.terminate()
    for process in _started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # each leads a session of its own
        process.wait()
    for folder in _folders:
        shutil.rmtree(folder, ignore_errors=True)
    _started.clear()
    _folders.clear()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _started.append(process)
    return process


def _folder(name: str) -> str:
    _folders.append(tempfile.mkdtemp(prefix=f"benchmark-{name}-"))
    os.chmod(_folders[-1], 0o755)
    return _folders[-1]


def _serves(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Wait until something accepts on the port."""
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > end:
            raise Missing(f"{' '.join(process.args)} does not serve")  # type: ignore[arg-type]
        time.sleep(0.05)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _wait_children(pid: int, count: int, title: str = "") -> list[int]:
    end = time.monotonic() + 20
    while len(found := [each for each in children(pid) if _title(each).startswith(title)]) < count:
        if time.monotonic() > end:
            raise Missing(f"process {pid} has only {len(found)} of {count} workers")
        time.sleep(0.05)
    return found


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def txsticky(
    app: str = "site",
    attribute: str = "site",
    workers: int = WORKERS,
    options: tuple[str, ...] = (),
) -> Running:
    """``python -m txsticky``, by session ids that it has tagged."""
    port = free_port()
    process = _run(
        _python(
            *("txsticky", "-l", f"127.0.0.1:{port}", "-w", str(workers), *options),
            f"benchmarks.apps.{app}:{attribute}",
        )
    )
    _serves(port, process)
    found = _wait_children(process.pid, workers, "txsticky: worker")
    _all_answer(port, "" if "--tls-cert" in options else app, workers)
    return Running("txsticky", port, [process.pid], found, "sid")


def secure(options: tuple[str, ...] = ()) -> Running:
    """Start txsticky with TLS, which the workers end."""
    papers = pair(Path(_folder("tls")), "localhost")
    return txsticky(options=("--tls-cert", papers.certificate, "--tls-key", papers.key, *options))


def _all_answer(port: int, app: str, workers: int) -> None:
    """Wait until every worker has answered, where answers say who it was."""
    if app not in ("site", "hello", "flasky"):
        time.sleep(2)
        return
    seen: set[bytes] = set()
    end = time.monotonic() + 20
    # From one address after the other, for a contender that goes by addresses.
    hosts = itertools.cycle(f"127.1.0.{number}" for number in range(1, 65))
    while len(seen) < workers and time.monotonic() < end:
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=5, source_address=(next(hosts), 0)
        )
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/hello", headers={"Connection": "close"})
            seen.add(connection.getresponse().read())
        time.sleep(0.01)


def _alone(
    app: str, port: int, *options: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    if app in ("hello", "chat", "broadcast"):
        command = _python(
            "uvicorn", f"benchmarks.apps.{app}:app", "--port", str(port), "--no-access-log"
        )
    else:
        command = _python("benchmarks.apps.alone", f"benchmarks.apps.{app}", str(port), *options)
    process = _run(command, environment)
    _serves(port, process)
    return process


def reuseport(app: str = "site") -> Running:
    """Plain Twisted servers that share a port: no stickiness, no front; the upper bound."""
    port = free_port()
    processes = [_alone(app, port, "reuseport") for _ in range(WORKERS)]
    pids = [process.pid for process in processes]
    time.sleep(2)  # the second one's port answers before it does
    return Running("Twisted, SO_REUSEPORT", port, [], pids, "none")


def direct(app: str = "site") -> Running:
    """One plain Twisted server."""
    port = free_port()
    process = _alone(app, port)
    return Running("Twisted, direct", port, [], [process.pid], "none")


def uvicorn(app: str = "hello") -> Running:
    """``uvicorn --workers 2``: no stickiness."""
    port = free_port()
    process = _run(
        _python(
            *("uvicorn", f"benchmarks.apps.{app}:app", "--port", str(port), "--no-access-log"),
            *("--workers", str(WORKERS)),
        )
    )
    _serves(port, process)
    _all_answer(port, app, WORKERS)
    # The first child is multiprocessing's resource tracker.
    workers = _wait_children(process.pid, WORKERS + 1)[-WORKERS:]
    return Running("uvicorn --workers 2", port, [], workers, "none")


def granian(interface: str, app: str, workers: int = WORKERS) -> Running:
    """``granian``: no stickiness; for WSGI it has as many threads as clients come."""
    _installed("granian")
    port = free_port()
    options = ["--interface", interface, "--workers", str(workers), "--no-ws"]
    if interface == "wsgi":
        options += ["--blocking-threads", str(_THREADS)]
    process = _run(
        _python(
            *("granian", "--host", "127.0.0.1", "--port", str(port), *options),
            f"benchmarks.apps.{app}:app",
        )
    )
    _serves(port, process)
    _all_answer(port, app, workers)
    return Running("granian", port, [process.pid], _wait_workers(process.pid, workers), "none")


def gunicorn(app: str, workers: int = 1) -> Running:
    """``gunicorn`` with threads: no stickiness."""
    _installed("gunicorn")
    port = free_port()
    process = _run(
        _python(
            *("gunicorn", "-b", f"127.0.0.1:{port}", "-w", str(workers), "-k", "gthread"),
            *("--threads", str(_THREADS), "--keep-alive", "60", f"benchmarks.apps.{app}:app"),
        )
    )
    _serves(port, process)
    _all_answer(port, app, workers)
    return Running(
        "gunicorn gthread", port, [process.pid], _wait_children(process.pid, workers), "none"
    )


def _installed(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise Missing(f"{name} is not installed (pip install {name})")


def _wait_workers(pid: int, count: int) -> list[int]:
    """The last children of a process that has others as well, such as a resource tracker."""
    return _wait_children(pid, count)[-count:]


def naive(app: str = "site") -> Running:
    """Twisted's port, a peeking protocol, sendFileDescriptor."""
    port = free_port()
    process = _run(_python("benchmarks.apps.naive", str(port)))
    _serves(port, process)
    workers = _wait_children(process.pid, WORKERS)
    time.sleep(1)
    return Running("Twisted, naive", port, [process.pid], workers, "none")


_HAPROXY = """
global
    maxconn 9000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout tunnel 600s
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend cluster
backend cluster
    balance leastconn
    cookie SRV insert indirect nocache
    server one 127.0.0.1:{first} cookie one
    server two 127.0.0.1:{second} cookie two
"""

_NGINX = """
worker_processes 1;
worker_rlimit_nofile 18000;
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 12000; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_read_timeout 600s;
    keepalive_requests 1000000;
    upstream cluster {{
        {stickiness};
        server 127.0.0.1:{first};
        server 127.0.0.1:{second};
        keepalive 64;
        keepalive_requests 1000000;
    }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://cluster;
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


def _program(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise Missing(f"{name} is not installed (apt-get install {name})")
    return path


def single(app: str) -> Running:
    """One ``uvicorn``."""
    port = free_port()
    process = _alone(app, port)
    return Running("uvicorn, one process", port, [], [process.pid], "none")


def with_redis(app: str) -> Running:
    """HAProxy in front of two single servers that talk by Redis; both count as the front."""
    port = free_port()
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "")
    redis = _run([_program("redis-server"), *options])
    _serves(port, redis)
    running = haproxy(app, {"BROADCAST_REDIS": f"redis://127.0.0.1:{port}"})
    running.name = "HAProxy and Redis"
    running.front.append(redis.pid)
    return running


def haproxy(app: str = "site", environment: dict[str, str] | None = None) -> Running:
    """HAProxy with an inserted cookie, in front of two single servers."""
    program = _program("haproxy")
    first, second, port = free_port(), free_port(), free_port()
    behind = [_alone(app, one, environment=environment) for one in (first, second)]
    folder = _folder("haproxy")
    file = Path(folder, "haproxy.cfg")
    file.write_text(_HAPROXY.format(port=port, first=first, second=second))
    front = _run([program, "-db", "-f", str(file)])
    _serves(port, front)
    workers = [process.pid for process in behind]
    return Running("HAProxy", port, [front.pid], workers, "cookie")


def nginx(app: str = "site", by_address: bool = False) -> Running:
    """
    nginx by a hash (of the address for Socket.IO), in front of two single servers.

    :param by_address: hash the address. It is not ``ip_hash``, which leaves out the last number of
        an IPv4 address, in which alone the clients here differ.
    """
    program = _program("nginx")
    first, second, port = free_port(), free_port(), free_port()
    behind = [_alone(app, first), _alone(app, second)]
    folder = _folder("nginx")
    file = Path(folder, "nginx.conf")
    file.write_text(
        _NGINX.format(
            port=port,
            first=first,
            second=second,
            folder=folder,
            user=os.environ.get("USER", "root"),
            # All clients here have addresses of their own only in the polling work.
            stickiness=(
                "hash $remote_addr consistent" if by_address or app == "chat" else "hash $arg_sid"
            ),
            buffering="on",
        )
    )
    front = _run([program, "-e", "stderr", "-c", str(file)])
    _serves(port, front)
    workers = [process.pid for process in behind]
    pids = _wait_children(front.pid, 1)
    return Running("nginx", port, pids, workers, "hash")


def socketio_sticky(app: str = "site") -> Running:
    """@socket.io/sticky with two Node workers."""
    program = _program("node")
    if not Path(NODE_MODULES, "@socket.io/sticky").is_dir():
        raise Missing(
            "@socket.io/sticky is not installed: npm install @socket.io/sticky@2.0.1 socket.io@4 ws"
            " somewhere, and TXSTICKY_NODE_MODULES=that folder's node_modules"
        )
    port = free_port()
    process = _run(
        [program, str(HERE / "native" / "sticky.js"), str(port)], {"NODE_PATH": NODE_MODULES}
    )
    _serves(port, process)
    workers = _wait_children(process.pid, WORKERS)
    time.sleep(2)
    return Running("@socket.io/sticky", port, [process.pid], workers, "sid")


def compiled(name: str) -> str:
    """The path of a program in native/, compiled if it has changed."""
    source = HERE / "native" / f"{name}.c"
    program = Path(tempfile.gettempdir(), f"txsticky-benchmarks-{os.getuid()}", name)
    program.parent.mkdir(exist_ok=True)
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or _program("gcc")
        subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return str(program)


def in_c(app: str = "site") -> Running:
    """accept, recv, sendmsg and close in C."""
    port = free_port()
    process = _run([compiled("handoff"), str(port), str(WORKERS)])
    _serves(port, process)
    workers = _wait_children(process.pid, WORKERS)
    return Running("C", port, [process.pid], workers, "none")


Starter = Callable[..., Running]
