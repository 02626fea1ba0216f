"""
The threads in which WSGI applications run.

A thread is started when an action waits and no thread is free, and ends when it has been idle for a
while. The number of threads in the application is bounded. A thread that waits for its client does
not count as being in the application, and another thread takes its place meanwhile.

Threads compete for the interpreter, and to change from one to the other costs more than a small
request. So a thread that is called while others are at work joins them only if they do not get on:
if none of them has taken an action for two milliseconds, because theirs block. Then the next few
threads join at once, each called by the one before. Thus actions that are short are run by one
thread, one after the other, and actions that block have as many threads as there may be.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from threading import Condition, Lock, Thread

from twisted.logger import Logger

log = Logger()

#: Seconds after which an idle thread ends.
IDLE = 30.0
#: Seconds for which a thread that is called lets the others get on.
PATIENCE = 0.002
#: Threads that join at once when others did not get on.
EAGER = 8
#: Threads that may wait for their clients without counting as being in the application.
MOST_ASIDE = 1000


class _Thread(Thread):
    """
    A thread that does not keep the process alive, although it is no daemon to its children.

    Threads that the application starts in it do keep the process alive, unless the application
    makes them daemons itself.

    :ivar action: what it is to run next.
    :ivar called: released to wake the thread, which waits to acquire it.
    """

    _runs = False

    def __init__(self, target: Callable[[_Thread], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._live = target
        self.action: Callable[[], object] | None = None
        self.called = Lock()
        self.called.acquire()

    def run(self) -> None:
        """Run the target (`threading.Thread.run`)."""
        self._runs = True
        self._live(self)

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
        self._names = map(f"{name}-{{}}".format, itertools.count(1))
        self._idle_time = idle
        self._lock = Lock()
        #: Notified when the last thread has ended.
        self._end = Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._threads: set[_Thread] = set()
        #: Threads that wait to be called, the one that has waited for the shortest time at the end.
        self._idle: list[_Thread] = []
        #: Released for each thread that may come back from its client, which then is active.
        self._returning: deque[Lock] = deque()
        self._taken = 0  # actions so far
        self._eager = 0  # threads that are to join at once
        self._active = 0
        self._aside = 0
        self._waking = False  # a thread was called, or started, and has not looked yet
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
            made = self._call()
        if made is not None:
            self._start(made)

    def aside(self, wait: Callable[[], object]) -> None:
        """
        Let the action of this thread wait for its client, and another action run meanwhile.

        If actions run one at a time, no other runs: the application may not allow that a request
        enters it while another is inside.

        :param wait: returns when the action may go on.
        """
        made = None
        with self._lock:
            steps = self._most > 1 and self._aside < MOST_ASIDE
            if steps:
                self._aside += 1
                self._leave()
                made = self._call()
        if made is not None:
            self._start(made)
        try:
            wait()
        finally:
            if steps:
                self._come_back()

    def stop(self) -> None:
        """Wait until all actions that were to run have run, and all threads have ended."""
        with self._lock:
            self._stopping = True
            for thread in self._idle:
                thread.called.release()
            self._idle.clear()
            while self._threads:
                self._end.wait()

    def _come_back(self) -> None:
        room = None
        with self._lock:
            self._aside -= 1
            if self._active < self._most:
                self._active += 1
            else:
                room = Lock()
                room.acquire()
                self._returning.append(room)
        if room is not None:
            room.acquire()

    # ------------------------------------------- within the lock

    def _leave(self) -> None:
        """Leave the application: the first of those that want to come back takes the place."""
        if self._returning:
            self._returning.popleft().release()
        else:
            self._active -= 1

    def _call(self) -> _Thread | None:
        """
        Call a thread if an action waits that may run, and none has been called yet.

        :returns: a thread to start.
        """
        if self._waking or not self._queue or self._active >= self._most:
            return None
        self._waking = True
        if self._idle:
            self._idle.pop().called.release()
            return None
        thread = _Thread(self._live, next(self._names))
        self._threads.add(thread)
        return thread

    def _joins(self, seen: int) -> bool:
        """
        Whether a thread that was called takes an action now.

        :param seen: how many were taken when it looked before.
        """
        if not self._active or self._stopping:
            return True
        if self._eager:
            self._eager -= 1
            return True
        if seen == self._taken:
            self._eager = EAGER
            return True
        return False

    def _discard(self, thread: _Thread) -> None:
        self._threads.discard(thread)
        if not self._threads:
            self._end.notify_all()

    # ------------------------------------------- without the lock

    def _start(self, thread: _Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # the kernel grants no more
            with self._lock:
                self._waking = False
                self._discard(thread)
                left = len(self._threads)
            log.error(
                "A thread for the application could not be started, and requests wait for the"
                " {left} that there are: {error}. Raise the limit of tasks (ulimit -u, TasksMax),"
                " or lower --threads.",
                left=left,
                error=error,
            )

    def _live(self, thread: _Thread) -> None:
        while True:
            if self._take(thread):
                self._run(thread)
                while self._next(thread):
                    self._run(thread)
            if not self._rest(thread):
                return

    def _run(self, thread: _Thread) -> None:
        action, thread.action = thread.action, None
        assert action is not None
        try:
            action()
        except BaseException:
            log.failure("An action failed in a thread.")

    def _take(self, thread: _Thread) -> bool:
        """Take the first action, if one may run and no other thread is about to take it."""
        made = None
        seen = -1
        while True:
            with self._lock:
                if not self._queue or self._active >= self._most:
                    self._waking = False
                    return False
                if self._joins(seen):
                    self._waking = False
                    self._active += 1
                    self._taken += 1
                    thread.action = self._queue.popleft()
                    made = self._call()
                    break
                seen = self._taken
            thread.called.acquire(timeout=PATIENCE)  # no other thread releases it meanwhile
        if made is not None:
            self._start(made)
        return True

    def _next(self, thread: _Thread) -> bool:
        """Take the next action in the place of the last, unless another thread comes back."""
        with self._lock:
            if self._queue and not self._returning:
                self._taken += 1
                thread.action = self._queue.popleft()
                return True
            self._leave()
        return False

    def _rest(self, thread: _Thread) -> bool:
        """Wait to be called; False to end."""
        with self._lock:
            if self._queue and not self._waking and self._active < self._most:
                self._waking = True
                return True
            if self._stopping:
                self._discard(thread)
                return False
            self._idle.append(thread)
        if not thread.called.acquire(timeout=self._idle_time):
            with self._lock:
                if thread in self._idle:
                    self._idle.remove(thread)
                    self._discard(thread)
                    return False
            thread.called.acquire()  # it was called in the very end
        return True
