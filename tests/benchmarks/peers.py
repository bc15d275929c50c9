"""What people use today, one function for each; nothing is imported before it is used.

opentelemetry-instrumentation-flask, prometheus-flask-exporter, request logging by structlog with orjson, and the audit
receiver that this project grew from.
"""

from __future__ import annotations

import time
from datetime import datetime
from datetime import timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from flask import g
from flask import request
from flask import request_finished

if TYPE_CHECKING:
    from flask import Flask
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["audit_requests", "log_requests", "measure_requests", "missing", "trace_requests"]

INFO = 20


def missing() -> list[str]:
    """Return the modules that are not installed."""
    modules = ("opentelemetry.instrumentation", "prometheus_flask_exporter", "structlog", "orjson")
    return [module for module in modules if find_spec(module) is None]


def trace_requests(app: Flask, provider: TracerProvider) -> None:
    """Make a span of every request."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    trace.set_tracer_provider(provider)
    FlaskInstrumentor().instrument_app(app)


def measure_requests(app: Flask) -> None:
    """Count and time every request by its rule."""
    from prometheus_flask_exporter import PrometheusMetrics

    PrometheusMetrics(app, group_by="url_rule")


def log_requests(app: Flask, path: str) -> None:
    """Write one JSON record for every request, the ids of its trace in it."""
    import orjson
    import structlog
    from opentelemetry import trace

    log = structlog.wrap_logger(
        structlog.BytesLogger(Path(path).open("ab", buffering=0)),  # noqa: SIM115 - as long as the process
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(INFO),
    )

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def tell(response: Any) -> Any:
        context = trace.get_current_span().get_span_context()
        log.info(
            "request",
            method=request.method,
            path=request.path,
            endpoint=request.endpoint,
            status=response.status_code,
            duration=time.perf_counter() - g.started,
            client=request.remote_addr,
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
        )
        return response


def audit_requests(app: Flask) -> None:
    """Append one line for every request."""
    request_finished.connect(persist, sender=app)


def persist(_sender: object, **_payload: object) -> None:
    """Open the file for one line."""
    now = datetime.now(timezone.utc).isoformat()
    client = request.headers.get("X-Forwarded-For", request.remote_addr)
    with Path("access_audit.log").open("a") as file:
        file.write(f"[{now}] {getattr(g, 'current_user', 'anonymous')}@{client} accessed {request.path}\n")
