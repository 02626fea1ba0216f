"""The lifespan of an ASGI application, by uvicorn, with the reason of a failure."""

from __future__ import annotations

import copy
from typing import Any

from twisted.logger import Logger
from uvicorn import Config

from ...errors import TxstickyError

log = Logger()


class LifespanFailed(TxstickyError):
    """its lifespan failed: {reason}"""  # noqa: D400, D415 - it follows a colon


class Lifespan:
    """
    The lifespan of one application in one worker.

    An application that raises instead of answering is served without a lifespan, as the
    specification says; the log tells. To raise before the first `receive()` is the usual way to
    have no lifespan; to raise later looks like a fault, and is logged as a warning.

    :param config: uvicorn's configuration, loaded.
    :ivar state: what the lifespan has put into the state of each request.
    """

    def __init__(self, config: Config) -> None:
        inner = copy.copy(config)
        self._app: Any = config.loaded_app
        inner.loaded_app = self._observed
        self._lifespan: Any = config.lifespan_class(inner)
        self._reason = ""
        self._asked = self._started = self._stopped = False
        self.state: dict[str, Any] = getattr(self._lifespan, "state", {})

    async def startup(self) -> None:
        """
        Start the application.

        :raises LifespanFailed: the application answers that it cannot start.
        """
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise LifespanFailed(reason=self._reason or "it does not say why")
        self._started = True

    async def shutdown(self) -> None:
        """Shut the application down, once, if it has a lifespan."""
        if self._started and not self._stopped:
            self._stopped = True
            await self._lifespan.shutdown()

    async def _observed(self, scope: Any, receive: Any, send: Any) -> None:
        async def heard(message: Any) -> None:
            if message["type"].endswith(".failed"):
                self._reason = _last_line(message.get("message", "")) or "it does not say why"
            await send(message)

        async def asked() -> Any:
            self._asked = True
            return await receive()

        try:
            await self._app(scope, asked, heard)
        except Exception as error:
            if not self._reason:
                self._raised(error)
            raise

    def _raised(self, error: Exception) -> None:
        if self._started:
            log.failure("The application's lifespan raised.")
        elif self._asked:
            log.warn(
                "The application is served although its lifespan ended with {kind}: {error}",
                kind=type(error).__name__,
                error=error,
            )
        else:
            log.info("The application has no lifespan, and is served without one.")
            log.debug(
                "At its lifespan the application raised {kind}: {error}",
                kind=type(error).__name__,
                error=error,
            )


def _last_line(text: str) -> str:
    """Return the last line that is not empty: that of the exception, if `text` is a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
