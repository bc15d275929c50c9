"""Isolation: whatever fails in here is counted and told, and never reaches the app."""

from __future__ import annotations

import logging
import time
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

__all__ = ["Guard"]

logger = logging.getLogger("flask_signal_observability")

LOG_INTERVAL_SECONDS = 60.0
"""A place that keeps failing says so once in this time."""

WENT_ON = "the request went on without it"


class Guard:
    """Runs what belongs to one sink and keeps its errors from everybody else. Safe to use from several threads.

    ``BaseException`` that is no ``Exception`` (SystemExit, KeyboardInterrupt, gevent's Timeout) passes: it is meant
    for the app or the server, not for us. Whoever else was to be told is told before it does.
    """

    def __init__(self) -> None:
        self.count: Callable[[str, str], None] | None = None
        """Counts one failure, by sink and stage; None while no metrics are kept."""
        self.consequences: dict[tuple[str, str], str] = {}
        """What a failure comes to, by sink and stage, where it is not that the request goes on."""
        self._last_told: dict[tuple[str, str], float] = {}

    def each(self, stage: str, calls: Sequence[tuple[str, Callable[..., object]]], *arguments: Any) -> None:
        """Call ``(sink name, callable)`` after each other; the failure of one does not stop the next."""
        for name, call in calls:
            try:
                call(*arguments)
            except Exception as error:  # noqa: BLE001 - the one place that may
                self.failed(name, stage, error)
            except BaseException:
                # A timeout that strikes in one sink must not leave the request in flight in the next.
                self.each(stage, calls[calls.index((name, call)) + 1 :], *arguments)
                raise

    def stage(self, stage: str, calls: Sequence[tuple[str, Callable[[Any], object]]]) -> Callable[[Any], None]:
        """Return what does as :meth:`each` does, for one argument: with its number known a call costs half."""
        if not calls:
            return _nobody
        if len(calls) == 1:
            return self._alone(stage, *calls[0])

        def tell(argument: Any) -> None:
            # The hot path: two of these run in every request.
            for name, call in calls:
                try:
                    call(argument)
                except Exception as error:  # noqa: BLE001
                    self.failed(name, stage, error)
                except BaseException:
                    self.each(stage, calls[calls.index((name, call)) + 1 :], argument)
                    raise

        return tell

    def _alone(self, stage: str, name: str, call: Callable[[Any], object]) -> Callable[[Any], None]:
        def tell(argument: Any) -> None:
            # The hot path: three of these run in every request.
            try:
                call(argument)
            except Exception as error:  # noqa: BLE001
                self.failed(name, stage, error)

        return tell

    def around(self, sink: str, stage: str, function: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
        """Return what does as :meth:`call` does, for this function of three arguments; None where it raises."""

        def call(first: Any, second: Any, third: Any) -> Any:
            # The hot path: three of these run in every request.
            try:
                return function(first, second, third)
            except Exception as error:  # noqa: BLE001
                self.failed(sink, stage, error)
                return None

        return call

    def call(self, sink: str, stage: str, function: Callable[..., Any], *arguments: Any, default: Any = None) -> Any:
        """Return what ``function`` returns, or ``default`` where it raised."""
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001
            self.failed(sink, stage, error)
            return default

    def kept(self, sink: str, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what does as :meth:`call` does, for this function, in half of its time; None where it raises."""

        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:  # noqa: BLE001
                self.failed(sink, stage, error)
                return None

        return call

    def failed(self, sink: str, stage: str, error: BaseException) -> None:
        """Count ``error`` under its sink and stage, and log it with its traceback at most once a minute."""
        try:
            if self.count is not None:
                self.count(sink, stage)
            now = time.monotonic()
            last = self._last_told.get((sink, stage))
            if last is None or now - last >= LOG_INTERVAL_SECONDS:
                self._last_told[sink, stage] = now
                logger.warning(
                    "%s failed at %s; %s (further failures here are counted in observability_errors_total and logged "
                    "once a minute)",
                    sink,
                    stage,
                    self.consequences.get((sink, stage), WENT_ON),
                    exc_info=error,
                )
        except Exception:  # noqa: BLE001, S110 - counting and logging may be what is broken
            pass


def _nobody(_argument: Any) -> None:
    """There is nobody to tell."""
