"""
The threads in which WSGI applications run.

A thread is started when an action waits and no thread is free, and ends when it has been idle for a
while. The number of threads in the application is bounded. A thread that waits for its client does
not count as being in the application, and another thread takes its place meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread, current_thread

from twisted.logger import Logger

log = Logger()

#: Seconds after which an idle thread ends.
IDLE = 30.0
#: Threads that may wait for their clients without counting as being in the application.
MOST_ASIDE = 1000


class _Thread(Thread):
    """
    A thread that does not keep the process alive, although it is no daemon to its children.

    Threads that the application starts in it do keep the process alive, unless the application
    makes them daemons itself.
    """

    _runs = False

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)

    def run(self) -> None:
        """Run the target (`threading.Thread.run`)."""
        self._runs = True
        super().run()

    @property
    def daemon(self) -> bool:  # type: ignore[override]
        """Read when the thread starts, and later by each thread that is made in it."""
        return not self._runs


class Threads:
    """
    A bounded pool of threads. All methods may be called from any thread.

    The threads do not keep the process alive.

    :param most: how many actions run at a time; further actions wait, first come, first served.
    :param name: the name of the threads, which a number follows.
    :param idle: seconds after which an idle thread ends.
    """

    def __init__(self, most: int, name: str, idle: float = IDLE) -> None:
        self._most = most
        self._name = name
        self._idle_time = idle
        self._lock = Lock()
        #: Notified when an action waits; when a thread may come back; when the last has ended.
        self._work = Condition(self._lock)
        self._room = Condition(self._lock)
        self._end = Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._threads: set[Thread] = set()
        self._made = 0
        self._idle = 0
        self._active = 0
        self._aside = 0
        self._returning = 0
        self._stopping = False

    @property
    def busy(self) -> bool:
        """Whether an action runs, or waits to run or to go on."""
        return bool(self._active or self._aside or self._returning or self._queue)

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def run(self, action: Callable[[], object]) -> None:
        """Run an action as soon as a thread may; what it raises is logged."""
        with self._lock:
            self._queue.append(action)
            self._hire()

    def aside(self, wait: Callable[[], object]) -> None:
        """
        Let the action of this thread wait for its client, and another action run meanwhile.

        If actions run one at a time, no other runs: the application may not allow that a request
        enters it while another is inside.

        :param wait: returns when the action may go on.
        """
        with self._lock:
            steps = self._most > 1 and self._aside < MOST_ASIDE
            if steps:
                self._aside += 1
                self._active -= 1
                self._hire()
        try:
            wait()
        finally:
            if steps:
                with self._lock:
                    self._come_back()

    def stop(self) -> None:
        """Wait until all actions that were to run have run, and all threads have ended."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            while self._threads:
                self._end.wait()

    # ------------------------------------------- within the lock

    def _come_back(self) -> None:
        self._aside -= 1
        self._returning += 1
        while self._active >= self._most:
            self._room.wait()
        self._returning -= 1
        self._active += 1
        self._hire()

    def _hire(self) -> None:
        """Wake or make the threads that are wanted for what waits."""
        wanted = min(len(self._queue), self._most - self._active - self._returning)
        for _ in range(wanted - self._idle):
            self._made += 1
            thread = _Thread(self._live, f"{self._name}-{self._made}")
            self._threads.add(thread)
            self._idle += 1  # until it has begun
            thread.start()
        if wanted > 0:
            self._work.notify(wanted)

    def _live(self) -> None:
        with self._lock:
            self._idle -= 1
            while (action := self._next()) is not None:
                self._active += 1
                self._lock.release()
                try:
                    action()
                except BaseException:
                    log.failure("An action failed in a thread.")
                finally:
                    del action  # and what it refers to, while the thread is idle
                    self._lock.acquire()
                    self._active -= 1
                    if self._returning:
                        self._room.notify()
            self._threads.discard(current_thread())
            if not self._threads:
                self._end.notify_all()

    def _next(self) -> Callable[[], object] | None:
        """Return the next action as soon as it may run; None to end the thread."""
        while not self._queue or self._active + self._returning >= self._most:
            if self._stopping and not self._queue:
                return None
            self._idle += 1
            told = self._work.wait(self._idle_time)
            self._idle -= 1
            if not told and not self._queue:
                return None
        return self._queue.popleft()
