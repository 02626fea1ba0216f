"""
The time that a worker has for its end: every period of leaving, on one line.

::

    told to leave                                                      G    G + LATE
      |-- pinned requests come --|-- what is under way --|-- RESERVE --|--------|
      0                     pinned_end             requests_end      whole   killed

G is ``--graceful-timeout``. It bounds the whole end of a worker.

* Until `pinned_end` a worker that is replaced still gets what is pinned to it, and its long-lived
  connections are closed one by one.
* Until `requests_end` what is under way may finish. A worker that has nothing to do goes on at
  once, and all the time that is left is the application's.
* From then on the application shuts down: its lifespan, its factory, its threads. At G the worker
  waits for that no longer and ends its event loop.
* The interpreter ends: threads that are no daemons, ``atexit``. There is no deadline for these
  alone; a process that is still there at `killed` gets SIGKILL from the primary or, if that has
  died, ends itself.

Told to leave quickly (INT, QUIT), a worker has `quick` in G's place and waits for no request, so
that its line begins where RESERVE does.
"""

from __future__ import annotations

from typing import Final

#: The part of a worker's time that is kept for the application's own shut-down when requests use up
#: all the rest, and the most that it is, in seconds.
RESERVE_PART: Final = 0.1
RESERVE_MOST: Final = 3.0
#: The part of the time for requests in which a worker that is replaced gets what is pinned to it.
PINNED: Final = 0.8
#: Seconds without a connection after which a worker that is replaced leaves sooner: a polling
#: client has none between two polls.
QUIET: Final = 1.0
#: Seconds that a process has beyond its time: the end of an interpreter takes two on a machine that
#: is very busy.
LATE: Final = 3.0
#: The most seconds that a quick end takes.
QUICK: Final = 10.0
#: The part of the time for the shut-down in which requests that still run may see that their
#: clients have gone, before they are cancelled, and the most that it is, in seconds.
LAST_CALL_PART: Final = 0.25
LAST_CALL_MOST: Final = 1.0
#: Seconds for which a WebSocket's client may answer the close frame of a worker that leaves.
CLOSE_HANDSHAKE: Final = 2.0
#: Seconds for which a client over TLS may send its next request to a worker that is replaced, or
#: any client to a lame duck that ends: it is answered, and told that it was the last. To close at
#: once would cross with a request on its way.
NEXT_REQUEST: Final = 2.0
#: Seconds between the end of a worker's channel and that of its process, if it dies; one that takes
#: longer lives, and is replaced.
SILENT: Final = 2.0
#: Seconds within which INT or QUIT that comes again is the same one: a terminal sends it to all
#: processes, and one that has started this program may pass it on.
SAME_SIGNAL: Final = 0.25


def requests_end(whole: float) -> float:
    """
    When requests that are under way are cut off.

    :param whole: seconds that the worker has.
    :returns: seconds after it was told to leave; so are the others.
    """
    return whole - min(RESERVE_PART * whole, RESERVE_MOST)


def pinned_end(whole: float) -> float:
    """When a worker that is replaced gets nothing any more."""
    return PINNED * requests_end(whole)


def killed(whole: float) -> float:
    """When a process that has not ended is killed."""
    return whole + LATE


def quick(graceful: float) -> float:
    """The seconds for a quick end, of those for a graceful one."""
    return min(graceful, QUICK)


def last_call(seconds: float) -> float:
    """
    For how long requests that still run are waited for once the shut-down has begun.

    :param seconds: those for the shut-down.
    """
    return min(LAST_CALL_PART * seconds, LAST_CALL_MOST)
