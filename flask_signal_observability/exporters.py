"""Which exporters the standard ``OTEL_*`` variables name, and how one is made from them.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import os
import time
from importlib.metadata import entry_points
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LOGS", "METRICS", "TRACES", "Signal", "once_a_minute", "sdk_is_disabled"]

logger = logging.getLogger("flask_signal_observability")

LOG_INTERVAL_SECONDS = 60.0
"""An exporter that is in trouble for long says so once in this time; what it gives up is counted."""


class _OnceAMinute(logging.Filter):
    """Lets a logger say one thing of each level in a minute; two threads may both be let through at its end."""

    def __init__(self) -> None:
        super().__init__()
        self._last_told: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        place = record.name, record.levelno
        if now - self._last_told.get(place, -LOG_INTERVAL_SECONDS) < LOG_INTERVAL_SECONDS:
            return False
        self._last_told[place] = now
        return True


_once_a_minute = _OnceAMinute()


def once_a_minute(exporter: Any) -> Any:
    """Return an exporter of ours, whose loggers, the SDK's too, no longer tell of each attempt and each batch."""
    for kind in type(exporter).__mro__:
        if kind.__module__.startswith("opentelemetry."):
            logging.getLogger(kind.__module__).addFilter(_once_a_minute)
    return exporter


def sdk_is_disabled() -> bool:
    """Tell whether ``OTEL_SDK_DISABLED`` is set: then nothing is sent, whatever the other variables name."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


class Signal(NamedTuple):
    """One of OpenTelemetry's kinds of telemetry, and the words that its variables and exporters are known by."""

    variable: str
    """As in ``OTEL_<…>_EXPORTER``."""
    noun: str
    what: str
    otherwise: str = ""
    """What becomes of it where no exporter takes it."""

    @property
    def group(self) -> str:
        """The entry point group under which OpenTelemetry's exporters register."""
        return f"opentelemetry_{self.variable.lower()}_exporter"

    def named(self) -> list[str]:
        """Return what ``OTEL_<…>_EXPORTER`` names, ``none`` too, each once."""
        names = os.environ.get(f"OTEL_{self.variable}_EXPORTER", "").split(",")
        return list(dict.fromkeys(name for part in names if (name := part.strip().lower())))

    def has_endpoint(self) -> bool:
        """Tell whether a variable names an endpoint for OTLP."""
        return self._otlp("ENDPOINT") is not None

    def make_exporters(self, default: Iterable[str], *, apart_from: Iterable[str] = ("none",)) -> dict[str, Any]:
        """Return by its name each exporter that the environment names, else ``default``, and that can be had."""
        names = [name for name in self.named() or default if name not in apart_from]
        return {name: exporter for name in names if (exporter := self.make_exporter(name)) is not None}

    def make_exporter(self, name: str) -> Any:
        """Return the exporter called ``name``; where it cannot be had, warn once and return None."""
        if name == "otlp":
            name = "otlp_proto_grpc" if self._otlp("PROTOCOL") == "grpc" else "otlp_proto_http"
        for entry_point in entry_points(group=self.group, name=name):
            try:
                return once_a_minute(entry_point.load()())
            except (ImportError, AttributeError, ValueError, RuntimeError, TypeError) as error:
                logger.warning(
                    "the %s %r cannot be used, so it gets no %s%s: %s",
                    *(self.noun, name, self.what, self.otherwise, error),
                )
                return None
        remedy = 'pip install "flask-signal-observability[otlp]"'
        logger.warning(
            "the environment asks for the %s %r, which is not installed, so it gets no %s%s: %s",
            self.noun,
            name,
            self.what,
            self.otherwise,
            remedy if name == "otlp_proto_http" else "install its package",
        )
        return None

    def _otlp(self, word: str) -> str | None:
        """Return what a variable of the exporter's own says, else the one for all signals."""
        own, common = f"OTEL_EXPORTER_OTLP_{self.variable}_{word}", f"OTEL_EXPORTER_OTLP_{word}"
        return os.environ.get(own) or os.environ.get(common) or None


TRACES = Signal("TRACES", "span exporter", "spans")
METRICS = Signal("METRICS", "metric exporter", "metrics")
LOGS = Signal("LOGS", "log exporter", "records", " (they go to stdout where no other exporter takes them)")
