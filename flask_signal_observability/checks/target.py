"""What is checked: an app, or what is left of it where it does not start."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import TYPE_CHECKING

from ..exporters import LOGS
from ..exporters import METRICS
from ..exporters import TRACES
from ..guard import Guard
from ..pipeline import EXTENSION
from ..pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from flask import Flask

    from ..config import Config
    from ..exporters import Signal

__all__ = ["Attempt", "Target"]

WSGI_ATTRIBUTES = ("wsgi_app", "app", "application", "wsgi")
"""Where middleware keeps what it wraps."""

MAX_LAYERS = 50


@dataclasses.dataclass(frozen=True)
class Target:
    """What the rooms look at.

    Args:
        environ: the environment variables.
        app: None where it does not start.
        failure: what its start ended with.
        warnings: what this package warned of while it started.
        metrics_url: the metrics of a running process of the app.
        timeout_seconds: how long each step over the network may take.
    """

    environ: Mapping[str, str]
    app: Flask | None = None
    failure: Exception | None = None
    warnings: tuple[str, ...] = ()
    metrics_url: str | None = None
    timeout_seconds: float = 2.0

    @property
    def pipeline(self) -> Pipeline | None:
        """What the app is observed by."""
        pipeline = None if self.app is None else self.app.extensions.get(EXTENSION)
        return pipeline if isinstance(pipeline, Pipeline) else None

    @property
    def config(self) -> Config | None:
        """The settings in force."""
        return None if self.pipeline is None else self.pipeline.config

    @property
    def provider(self) -> Any:
        """The TracerProvider of the app's spans; None where there are none."""
        sinks = () if self.pipeline is None else self.pipeline.sinks
        return next((sink.provider for sink in sinks if getattr(sink, "name", "") == "tracing"), None)

    def layers(self) -> Iterator[Any]:
        """Return the WSGI callables around the app, the outermost first."""
        layer: Any = None if self.app is None else self.app.wsgi_app
        for _ in range(MAX_LAYERS):
            if layer is None or layer is self.app:
                return
            yield layer
            layer = next((inner for name in WSGI_ATTRIBUTES if callable(inner := getattr(layer, name, None))), None)

    def signals(self) -> list[tuple[Signal, str]]:
        """Return what is sent over OTLP by the environment's word, and what asks for it."""
        config = self.config
        asked = []
        if config is None or config.tracing:
            names = TRACES.named() or ["otlp"] * TRACES.has_endpoint()
            if any(name.startswith("otlp") for name in names):
                asked.append((TRACES, "tracing"))
        if config is not None and config.metrics and config.metrics_push:
            asked.append((METRICS, "metrics_push"))
        if config is not None and config.logs and config.log_stream == "otlp":
            asked.append((LOGS, "log_stream"))
        return asked


class Attempt(Guard):
    """A guard that keeps the error instead of logging it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def failed(self, sink: str, stage: str, error: BaseException) -> None:
        """Keep it."""
        self.error = error if isinstance(error, Exception) else None

    def make(self, stage: str, function: Callable[[], Any], default: Any = None) -> Any:
        """Return what ``function`` returns, or ``default`` where it raised."""
        return self.call("check", stage, function, default=default)
