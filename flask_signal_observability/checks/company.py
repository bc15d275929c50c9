"""Who else observes the app: what is told twice, and what stands in the way."""

from __future__ import annotations

from importlib import metadata
from typing import Any
from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from .finding import Finding
    from .target import Target

__all__ = ["look"]

report = Report("duplicates")

PEERS = {
    "opentelemetry.instrumentation.flask": (
        "opentelemetry-instrumentation-flask makes a second span of every request",
        "take FlaskInstrumentor out; under opentelemetry-instrument set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=flask",
    ),
    "opentelemetry.instrumentation.wsgi": (
        "opentelemetry-instrumentation-wsgi makes a second span of every request",
        "take OpenTelemetryMiddleware out",
    ),
    "prometheus_flask_exporter": (
        "prometheus-flask-exporter counts every request a second time, at a /metrics of its own",
        "take PrometheusMetrics out, once dashboards use http_server_request_duration_seconds",
    ),
}


def look(target: Target) -> Iterator[Finding]:
    """Look for others' functions and middleware on the app."""
    if target.app is None:
        return
    found = [peer for peer in PEERS if any(_is_of(module, peer) for module in _modules(target.app, target))]
    if "opentelemetry.instrumentation.flask" in found:  # which uses the other one
        found = [peer for peer in found if peer != "opentelemetry.instrumentation.wsgi"]
    for peer in found:
        yield report.warning(*PEERS[peer])
    if "opentelemetry.instrumentation.flask" not in found and _is_auto_instrumented(target):
        yield report.warning(
            "opentelemetry-instrument starts this app, and opentelemetry-instrumentation-flask is installed",
            "set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=flask, or uninstall it",
        )
        return
    config = target.config
    for layer in target.layers():
        mounts = layer.mounts if isinstance(layer, DispatcherMiddleware) else {}
        if config is not None and config.metrics_path in mounts:
            yield report.warning(
                f"another application is mounted at {config.metrics_path!r}, in front of the metrics",
                "take it out of DispatcherMiddleware, or set metrics_path to another path",
            )
    if not found:
        yield report.ok("nothing else that is known observes the app")


def _modules(app: Flask, target: Target) -> Iterator[str]:
    """Return where the functions come from that the app calls."""
    yield from (each.__module__ for each in type(app).__mro__)
    if app.__dict__.get("_is_instrumented_by_opentelemetry"):
        yield "opentelemetry.instrumentation.flask"
    called: list[Any] = [*app.view_functions.values(), *app.teardown_appcontext_funcs]
    for table in (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs):
        called += [function for functions in table.values() for function in functions]
    for function in [*called, *app.extensions.values(), *target.layers()]:
        yield getattr(function, "__module__", None) or ""
        yield type(function).__module__


def _is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_auto_instrumented(target: Target) -> bool:
    disabled = target.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").replace(" ", "").split(",")
    if "auto_instrumentation" not in target.environ.get("PYTHONPATH", "") or {"flask", "*"} & {*disabled}:
        return False
    try:
        metadata.version("opentelemetry-instrumentation-flask")
    except metadata.PackageNotFoundError:
        return False
    return True
