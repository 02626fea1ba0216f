"""What is said by Python's logging, in the worker's own log."""

from __future__ import annotations

import logging
import os
from typing import Any
from unittest import mock

import uvicorn
from twisted.logger import STDLibLogObserver, capturedLogs, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.asgi.pylogging import Bridge, Chatter, bridge

LOGGERS = ("", "uvicorn", "uvicorn.error", "shop")


class BridgeTests(SynchronousTestCase):
    """Records of Python's loggers."""

    def setUp(self) -> None:
        self.patch(logging, "lastResort", logging.lastResort)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            self.addCleanup(logger.setLevel, logger.level)
            self.patch(logger, "handlers", [])

    def said(self, say: Any, level: str = "info") -> list[tuple[str, str]]:
        """What is logged while something is said, at a level of the command line."""
        bridge(level)
        with capturedLogs() as events:
            say()
        return [(event["log_level"].name, event["text"]) for event in events]

    def test_information_of_uvicorn(self) -> None:
        """Information that an application tells by uvicorn's loggers is kept."""
        for name in ("uvicorn", "uvicorn.error", "shop"):
            said = self.said(
                lambda name=name: logging.getLogger(name).info("connected to %s", "db")
            )
            self.assertEqual(said, [("info", "connected to db")])

    def test_levels(self) -> None:
        """Each level is Twisted's of the same name, those between count as the lower."""
        numbers = (logging.DEBUG, logging.INFO, 25, logging.WARNING, logging.ERROR, 55)
        said = self.said(lambda: [logging.getLogger("shop").log(n, "x") for n in numbers], "debug")
        self.assertEqual(
            [level for level, _ in said], ["debug", "info", "info", "warn", "error", "critical"]
        )

    def test_log_level(self) -> None:
        """What is below the level of the command line is not told."""

        def say() -> None:
            for name in ("shop", "uvicorn.error"):
                logging.getLogger(name).info("information")
                logging.getLogger(name).warning("warning")

        self.assertEqual(len(self.said(say, "info")), 4)
        self.assertEqual(self.said(say, "warning"), [("warn", "warning")] * 2)
        self.assertEqual(self.said(say, "critical"), [])

    def test_own_level(self) -> None:
        """A logger to which the application has given a level keeps it."""
        logging.getLogger("shop").setLevel(logging.ERROR)
        self.addCleanup(logging.getLogger("shop").setLevel, logging.NOTSET)
        self.assertEqual(self.said(lambda: logging.getLogger("shop").warning("x")), [])

    def test_set_up(self) -> None:
        """What the application has set `logging` up for is in its log alone."""

        class Kept(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                kept.append(record.getMessage())

        kept: list[str] = []

        def say() -> None:
            # It takes effect: nothing here has given the root a handler.
            logging.basicConfig(level=logging.WARNING, handlers=[Kept()])
            for name in ("shop", "uvicorn.error"):
                logging.getLogger(name).info("information of %s", name)
                logging.getLogger(name).error("an error of %s", name)

        self.assertEqual(self.said(say), [])
        self.assertEqual(
            kept,
            ["an error of shop", "information of uvicorn.error", "an error of uvicorn.error"],
        )

    def test_chatter_of_uvicorn(self) -> None:
        """What uvicorn tells of itself is for debugging; its warnings are not."""
        place = os.path.join(os.path.dirname(uvicorn.__file__), "protocols", "x.py")

        def say() -> None:
            logger = logging.getLogger("uvicorn.error")
            for level in (logging.INFO, logging.WARNING):
                logger.handle(logger.makeRecord(logger.name, level, place, 1, "open", (), None))

        self.assertEqual(self.said(say), [("warn", "open")])
        self.assertEqual(self.said(say, "debug"), [("debug", "open"), ("warn", "open")])

    def test_chatter_in_vain(self) -> None:
        """Of what uvicorn tells of its WebSockets no record is made that none takes."""
        logger = logging.getLogger("uvicorn.error")
        chatter = Chatter(logger, {})

        def say() -> None:
            chatter.info("open")
            chatter.warning("closed")

        with mock.patch.object(logger, "makeRecord", wraps=logger.makeRecord) as made:
            self.assertEqual(self.said(say), [("warn", "closed")])
            self.assertEqual(made.call_count, 1)
        self.assertEqual([level for level, _ in self.said(say, "debug")], ["info", "warn"])
        self.assertEqual(chatter.level, logger.level)

    def test_chatter_that_is_taken(self) -> None:
        """An application that takes uvicorn's records gets those of WebSockets, too."""
        bridge("info")
        kept = mock.Mock(spec=logging.Handler, level=0)
        logging.getLogger("uvicorn").addHandler(kept)
        Chatter(logging.getLogger("uvicorn.error"), {}).info("open")
        [[record]] = [call.args for call in kept.handle.call_args_list]
        self.assertEqual(record.getMessage(), "open")

    def test_traceback(self) -> None:
        """An exception comes with its traceback."""

        def say() -> None:
            try:
                raise LookupError("no such shelf")
            except LookupError:
                logging.getLogger("shop").exception("It broke.")

        [(level, text)] = self.said(say)
        self.assertEqual((level, text.splitlines()[0]), ("error", "It broke."))
        self.assertEqual(text.splitlines()[-1], "LookupError: no such shelf")

    def test_no_circle(self) -> None:
        """An application that takes Twisted's log to `logging` does not have it come back."""
        for name in ("twisted", "shop.events"):
            observer = STDLibLogObserver(name)
            globalLogPublisher.addObserver(observer)
            try:
                said = self.said(lambda: logging.getLogger("shop").warning("once"))
            finally:
                globalLogPublisher.removeObserver(observer)
            self.assertEqual(said, [("warn", "once")])

    def test_wrong_arguments(self) -> None:
        """A record that cannot be formatted raises nothing in the application."""
        with mock.patch.object(Bridge, "handleError") as handled:
            self.assertEqual(self.said(lambda: logging.getLogger("shop").error("%d", "x")), [])
        self.assertEqual(handled.call_count, 1)
