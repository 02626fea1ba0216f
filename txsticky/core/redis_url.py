"""Where the bus between machines is: what `--bus` takes."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import attrs

_PORT: Final = 6379
#: The key of the stream in its database.
STREAM: Final = b"txsticky:stream"
#: Entries that a stream keeps, if the URL does not say it.
LENGTH: Final = 10_000
_HINT: Final = (
    "write local, redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://... or unix://PATH;"
    " or redis-stream://..., rediss-stream://... or unix-stream://PATH, with ?length=ENTRIES"
)


@attrs.frozen(kw_only=True)
class RedisAddress:
    """
    A Redis server, and one of its databases.

    :param host: its name or address; empty if it is reached by `path`.
    :param path: its UNIX socket.
    :param db: the number of the database. Redis's channels know no databases, so that it is part of
        their names.
    :param secure: whether TLS is spoken.
    :param stream: whether messages are kept in a stream, and of how many entries at least.
    """

    host: str = ""
    port: int = _PORT
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    secure: bool = False
    stream: int = 0

    def __str__(self) -> str:
        """For the log: no password."""
        return self.path or (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"


def parse_bus(text: str) -> RedisAddress | None:
    """
    Read what `--bus` takes.

    :param text: ``local``, or a URL as redis-py and redis-cli take it: ``redis://``, ``rediss://``
        for TLS, ``unix://PATH?db=N``. With ``-stream`` behind the scheme messages are kept in a
        stream; ``?length=N`` says how many entries.
    :returns: None for ``local``.
    :raises ValueError: it is neither; the sentence says what to write.
    """
    if text == "local":
        return None
    try:
        url = urlsplit(text)
        port = url.port or _PORT
    except ValueError as error:
        raise ValueError(f"{error}; {_HINT}") from None
    scheme, stream = url.scheme.removesuffix("-stream"), url.scheme.endswith("-stream")
    unix = scheme == "unix"
    if not (unix or scheme in ("redis", "rediss")) or (unix and not url.path):
        raise ValueError(_HINT)
    query = parse_qs(url.query)
    db = query.get("db", [""])[0] or ("" if unix else url.path.strip("/")) or "0"
    if not (db.isascii() and db.isdigit()):
        raise ValueError(f"{db!r} is no number of a database; {_HINT}")
    length = query.get("length", [str(LENGTH)])[0]
    if stream and not (length.isascii() and length.isdigit() and int(length)):
        raise ValueError(f"{length!r} is no number of entries; {_HINT}")
    return RedisAddress(
        host="" if unix else url.hostname or "localhost",
        port=port,
        path=unquote(url.path) if unix else "",
        db=int(db),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        secure=scheme == "rediss",
        stream=int(length) if stream else 0,
    )
