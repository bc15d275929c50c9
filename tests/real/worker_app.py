"""An app that tells its worker's process, and has ways to keep a worker from answering."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from flask import Flask
from opentelemetry import trace
from prometheus_client import generate_latest

from flask_signal_observability import Observability
from flask_signal_observability import Sink

__all__ = ["create_app", "create_busy_app"]


class LastMetrics(Sink):
    """Writes the metrics down when the worker ends: nobody scrapes them then."""

    def finish(self, record: object) -> None:
        pass

    def close(self) -> None:
        Path(f"metrics-{os.getpid()}.txt").write_bytes(generate_latest())


def create_app() -> Flask:
    random.seed(0)  # as programs do that want to be repeatable
    app = Flask("shop")
    Observability(app, audit_requests=True, sinks=[LastMetrics()])
    app.add_url_rule("/json", view_func=lambda: {"process": os.getpid()})

    @app.get("/slow")
    def slow() -> dict[str, int]:
        time.sleep(0.05)
        return {"process": os.getpid()}

    @app.get("/asleep")
    def asleep() -> str:
        Path(f"asleep-{os.getpid()}").touch()
        time.sleep(60)
        return "too late"

    @app.get("/busy")
    def busy() -> str:
        """Keep the processor, as no greenlet should."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass
        return "too late"

    return app


def create_busy_app() -> Flask:
    """The app of a master that has exported spans of its own, and has more in the queue when it forks."""
    app = create_app()
    tracer = trace.get_tracer("master")
    tracer.start_span("exported by the master").end()
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    tracer.start_span("queued in the master").end()
    return app
