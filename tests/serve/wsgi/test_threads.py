"""The threads of WSGI applications: made when needed, bounded, replaced while they wait."""

from __future__ import annotations

import threading
import unittest.mock
from collections.abc import Callable
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.wsgi.threads import Threads

PATIENCE = 60.0


class Task:
    """An action that waits until it is told to go on."""

    def __init__(self, inside: Callable[[], object] = lambda: None) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.over = threading.Event()
        self._inside = inside

    def __call__(self) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self._inside()
        self.over.set()


class ThreadsCase(SynchronousTestCase):
    """A pool, and actions for it."""

    def make(self, most: int, idle: float = PATIENCE) -> Threads:
        """A pool that is stopped at the end."""
        threads = Threads(most, "test", idle)
        self.addCleanup(threads.stop)
        return threads

    def tasks(self, threads: Threads, number: int) -> list[Task]:
        """So many actions, given to the pool."""
        tasks = [Task() for _ in range(number)]
        for task in tasks:
            self.addCleanup(task.go.set)
            threads.run(task)
        return tasks

    def begun(self, *tasks: Task) -> None:
        """Wait until these have begun."""
        for task in tasks:
            self.assertTrue(task.begun.wait(PATIENCE))

    def end(self, *tasks: Task) -> None:
        """Have these end."""
        for task in tasks:
            task.go.set()
            self.assertTrue(task.over.wait(PATIENCE))

    def settled(self, fact: Callable[[], object]) -> None:
        """Wait until something is so that a thread does behind its action."""
        pause = threading.Event()
        for _ in range(2000):
            if fact():
                return
            pause.wait(0.01)
        raise AssertionError("it never came to be")


class ThreadsTests(ThreadsCase):
    """The pool."""

    def test_made_when_needed(self) -> None:
        """A thread is made for an action that none is free for, and no other."""
        threads = self.make(10)
        self.assertEqual((threads.count, threads.busy), (0, False))
        first, second = self.tasks(threads, 2)
        self.begun(first, second)
        self.assertEqual((threads.count, threads.busy), (2, True))
        self.end(first)
        self.settled(lambda: len(threads._idle) == 1)
        (third,) = self.tasks(threads, 1)
        self.begun(third)
        self.assertEqual(threads.count, 2)
        self.end(second, third)
        self.settled(lambda: not threads.busy)

    def test_most(self) -> None:
        """Over the bound actions wait, and run in their order."""
        threads = self.make(2)
        tasks = self.tasks(threads, 4)
        self.begun(*tasks[:2])
        self.assertEqual(threads.count, 2)
        self.assertFalse(tasks[2].begun.is_set())
        self.end(tasks[1])
        self.begun(tasks[2])
        self.assertFalse(tasks[3].begun.is_set())
        self.end(tasks[0])
        self.begun(tasks[3])
        self.end(*tasks[2:])

    def test_herd(self) -> None:
        """Of many actions each runs once, and never more at a time than may."""
        threads = self.make(5)
        lock, running, most, done = threading.Lock(), 0, 0, threading.Semaphore(0)

        def action() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            with lock:
                running -= 1
            done.release()

        for _ in range(3000):
            threads.run(action)
        for _ in range(3000):
            self.assertTrue(done.acquire(timeout=PATIENCE))
        self.settled(lambda: not threads.busy)
        self.assertLessEqual(most, 5)
        self.assertLessEqual(threads.count, 5)

    def test_idle(self) -> None:
        """A thread that has had nothing to do for a while ends; the next action has a new one."""
        threads = self.make(3, idle=0.05)
        tasks = self.tasks(threads, 3)
        self.begun(*tasks)
        self.end(*tasks)
        self.settled(lambda: not threads.count)
        (task,) = self.tasks(threads, 1)
        self.begun(task)
        self.end(task)

    def test_fails(self) -> None:
        """An action that fails is logged, and its thread goes on."""
        threads = self.make(1)

        def fail() -> None:
            raise LookupError("nothing there")

        threads.run(fail)
        (task,) = self.tasks(threads, 1)
        self.begun(task)
        self.end(task)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_stop(self) -> None:
        """A stop waits for what was to run; then no thread is left."""
        threads = Threads(1, "stopped")
        tasks = self.tasks(threads, 3)
        stopping = threading.Thread(target=threads.stop)
        stopping.start()
        self.begun(tasks[0])
        self.assertTrue(stopping.is_alive())
        self.end(*tasks)
        stopping.join(PATIENCE)
        self.assertFalse(stopping.is_alive())
        self.assertEqual((threads.count, threads.busy), (0, False))
        threads.stop()

    def test_one_after_the_other(self) -> None:
        """Actions that do not block are run by the thread that is awake; others are not woken."""
        threads = self.make(10)
        tasks = self.tasks(threads, 4)
        self.begun(*tasks)
        self.end(*tasks)
        self.settled(lambda: len(threads._idle) == 4)
        (task,) = self.tasks(threads, 1)
        self.begun(task)
        ran: list[str] = []
        threads._waking = True  # as if one were called that has not come yet
        for _ in range(3):
            threads.run(lambda: ran.append(threading.current_thread().name))
        self.assertEqual(len(threads._idle), 3)
        threads._waking = False
        self.end(task)
        self.settled(lambda: not threads.busy)
        self.assertEqual(len(ran), 3)
        self.assertEqual(len(set(ran)), 1)

    def test_no_more_threads(self) -> None:
        """Where the kernel grants no thread the action waits, and a sentence says so."""
        threads = self.make(2)
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        ran = threading.Event()
        with unittest.mock.patch.object(
            threading.Thread, "start", side_effect=RuntimeError("can't start new thread")
        ):
            threads.run(lambda: None)
        self.assertEqual((threads.count, threads.busy), (0, True))
        self.assertIn("TasksMax", formatEvent(said[-1]))
        threads.run(ran.set)
        self.assertTrue(ran.wait(PATIENCE))


class AsideTests(ThreadsCase):
    """Threads that wait for their clients."""

    def aside(self, threads: Threads) -> tuple[Task, threading.Event, threading.Event]:
        """
        An action that steps aside as soon as it may go on.

        :returns: the action, what tells that it waits, and what ends the wait.
        """
        waits, client = threading.Event(), threading.Event()

        def wait() -> None:
            waits.set()
            assert client.wait(PATIENCE)

        task = Task(lambda: threads.aside(wait))
        self.addCleanup(client.set)
        self.addCleanup(task.go.set)
        threads.run(task)
        return task, waits, client

    def test_replaced(self) -> None:
        """While a thread waits for its client, another is in its place; the pool is busy."""
        threads = self.make(2)
        waiting = [self.aside(threads) for _ in range(5)]
        for task, waits, _ in waiting:
            task.go.set()
            self.assertTrue(waits.wait(PATIENCE))
        tasks = self.tasks(threads, 3)
        self.begun(*tasks[:2])
        self.assertFalse(tasks[2].begun.is_set())
        self.end(*tasks[:2])
        self.begun(tasks[2])
        self.end(tasks[2])
        self.assertTrue(threads.busy)
        for task, _, client in waiting:
            client.set()
            self.assertTrue(task.over.wait(PATIENCE))
        self.settled(lambda: not threads.busy)

    def test_comes_back(self) -> None:
        """A thread whose client goes on waits until it may, and comes before new actions."""
        threads = self.make(2)
        task, waits, client = self.aside(threads)
        task.go.set()
        self.assertTrue(waits.wait(PATIENCE))
        first, second, third = self.tasks(threads, 3)
        self.begun(first, second)
        client.set()
        self.settled(lambda: threads._returning)
        self.assertFalse(task.over.is_set())
        self.end(first)
        self.assertTrue(task.over.wait(PATIENCE))
        self.begun(third)
        self.end(second, third)

    def test_only_one(self) -> None:
        """An application of which one request runs at a time is not entered within another."""
        threads = self.make(1)
        task, waits, client = self.aside(threads)
        task.go.set()
        self.assertTrue(waits.wait(PATIENCE))
        (other,) = self.tasks(threads, 1)
        self.assertFalse(other.begun.wait(0.05))
        client.set()
        self.begun(other)
        self.end(other)

    def test_wait_fails(self) -> None:
        """A wait that fails leaves the count as it was."""
        threads = self.make(2)

        def fail() -> None:
            raise LookupError("the client")

        threads.run(lambda: threads.aside(fail))
        self.settled(lambda: not threads.busy)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)
        self.assertEqual((threads._active, threads._aside), (0, 0))

    def test_storm(self) -> None:
        """However many step aside and come back, each runs to its end, and few at a time."""
        threads = self.make(4)
        lock, running, most, done = threading.Lock(), 0, 0, threading.Semaphore(0)

        def count(step: int) -> None:
            nonlocal running, most
            with lock:
                running += step
                most = max(most, running)

        def action() -> None:
            count(1)
            for _ in range(3):
                count(-1)
                threads.aside(lambda: threading.Event().wait(0.001))
                count(1)
            count(-1)
            done.release()

        for _ in range(300):
            threads.run(action)
        for _ in range(300):
            self.assertTrue(done.acquire(timeout=PATIENCE))
        self.settled(lambda: not threads.busy)
        self.assertLessEqual(most, 4)
