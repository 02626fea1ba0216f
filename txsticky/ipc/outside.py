"""
How a process that is no worker speaks to a cluster: a shell, cron, a Celery task, another program.

It has the cluster's control socket (`admin.control`), or the Redis between the machines
(`bus.redis`, `bus.stream`). Calls block, and need no reactor.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import socket
from collections.abc import Mapping
from typing import Any, Final

from ..core.messages.frames import TOPIC_LIMIT
from ..core.redis_url import STREAM, parse_bus
from ..errors import ConfigError, NoListener, Unanswered, WhichCluster

#: Seconds that an answer may take.
PATIENCE: Final = 10.0
#: Where a control socket is named.
VARIABLE: Final = "TXSTICKY_CONTROL"
#: The longest message that the control socket takes, in bytes.
MESSAGE_LIMIT: Final = 1 << 20
#: The bytes in front of a message in Redis that tell one primary's messages from another's; a
#: process outside is as good as a primary that no other one is.
_MARK: Final = 8


def ask(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """
    Say something to a cluster.

    :param path: its control socket.
    :returns: its answer.
    :raises Unanswered: there is none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as stream:
                line = stream.readline()
        except TimeoutError:
            raise Unanswered(sentence=f"The cluster at {path} does not answer.") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise Unanswered(sentence=f"No cluster answers at {path}: {why}.") from None
    if not line:
        raise Unanswered(sentence=f"The cluster at {path} has hung up without an answer.")
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "ok" not in answer:
        raise Unanswered(sentence=f"What answers at {path} is no txsticky cluster.")
    return answer


def publish(
    topic: str,
    message: bytes,
    *,
    control: str | None = None,
    bus: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """
    Send `message` to every worker that listens to `topic`.

    :param control: the control socket of the cluster; without it and `bus`, $TXSTICKY_CONTROL or
        $TXSTICKY_BUS says where.
    :param bus: the URL of the Redis that ``--bus`` of the clusters names.
    :returns: how many have it: workers, or with Redis primaries. A stream does not tell who reads
        it: 1.
    :raises NoListener: none has.
    :raises WhichCluster: no cluster is named.
    :raises Unanswered: the cluster or Redis does not answer, or refuses.
    :raises ConfigError: `bus` is no URL of a Redis, or the library for Redis is missing.
    :raises ValueError: the topic is longer than 65,535 bytes, or the message is too long.
    """
    if len(topic.encode()) > TOPIC_LIMIT:
        raise ValueError(f"A topic may have {TOPIC_LIMIT} bytes.")
    if control is None and bus is None:
        control, bus = environ.get(VARIABLE), environ.get("TXSTICKY_BUS")
    if control:
        count = _by_control(control, topic, message)
    elif bus and bus != "local":
        count = _by_redis(bus, topic, message)
    else:
        raise WhichCluster()
    if not count:
        raise NoListener(topic=topic)
    return count


def _by_control(path: str, topic: str, message: bytes) -> int:
    if len(message) > MESSAGE_LIMIT:
        raise ValueError(f"A message may have {MESSAGE_LIMIT} bytes by way of the control socket.")
    encoded = base64.b64encode(message).decode()
    answer = ask(path, {"verb": "publish", "topic": topic, "message": encoded})
    if not answer["ok"]:
        raise Unanswered(sentence=f"The cluster at {path} refuses: {answer['error']}")
    return int(answer["told"])


def _by_redis(url: str, topic: str, message: bytes) -> int:
    try:
        address = parse_bus(url)
    except ValueError as error:
        raise ConfigError(option="bus", value=url, hint=str(error)) from None
    assert address is not None
    try:
        redis: Any = importlib.import_module("redis")
    except ImportError as error:
        raise ConfigError(option="bus", value=url, hint=f"pip install redis ({error})") from None
    mark, name = os.urandom(_MARK), b"txsticky:%d:" % address.db + topic.encode()
    with redis.Redis.from_url(
        _plain(url), socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
    ) as client:
        try:
            if address.stream:  # as `bus.entries` has it
                entry = {mark: b'{"number": 0}', topic.encode(): message}
                client.xadd(STREAM, entry, maxlen=address.stream, approximate=True)
                return 1
            told: int = client.publish(name, mark + message)
        except redis.RedisError as error:
            raise Unanswered(sentence=f"Redis at {address} does not take it: {error}.") from None
    return told


def _plain(url: str) -> str:
    """Return the URL as redis-py takes it: without what is said of a stream."""
    scheme, _, rest = url.partition("://")
    where, _, query = rest.partition("?")
    query = "&".join(part for part in query.split("&") if not part.startswith("length="))
    return f"{scheme.removesuffix('-stream')}://{where}" + (query and f"?{query}")
