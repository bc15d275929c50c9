"""Spans: whether any are made, and whether the ``OTEL_*`` variables say what they are meant to."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import environment_variables as of_api
from opentelemetry.sdk import environment_variables as of_sdk

from ..exporters import LOGS
from ..exporters import METRICS
from ..exporters import TRACES
from ..providers import BoundedTracerProvider
from ..providers import LocalTracerProvider
from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from ..exporters import Signal
    from .finding import Finding
    from .target import Target

__all__ = ["look"]

report = Report("tracing")

NEAR_MISS = 0.9
"""difflib's ratio; the names of two real variables come as near as 0.89."""

SAMPLERS = tuple(
    prefix + name for prefix in ("", "parentbased_") for name in ("always_on", "always_off", "traceidratio")
)
"""https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration"""

PACKAGES = {
    "otlp_proto_http": '"flask-signal-observability[otlp]"',
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "zipkin": "opentelemetry-exporter-zipkin",
    "zipkin_json": "opentelemetry-exporter-zipkin-json",
    "zipkin_proto": "opentelemetry-exporter-zipkin-proto-http",
}


def look(target: Target) -> Iterator[Finding]:
    """Tell of the variables, the exporters that they name, and the sampler."""
    yield from _misspelt(target.environ)
    yield from _propagators(target.environ)
    yield from _exporters(target)
    if target.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield report.warning("OTEL_SDK_DISABLED=true: no spans are made", "unset OTEL_SDK_DISABLED")
    yield from _sampler(target)


def _misspelt(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = [name for name in (*dir(of_api), *dir(of_sdk)) if name.startswith("OTEL_")]
    for key in sorted(environ):
        if key.startswith("OTEL_") and key not in known and (near := get_close_matches(key, known, 1, NEAR_MISS)):
            yield report.warning(f"environment variable {key} is none of OpenTelemetry's", f"did you mean {near[0]}?")


def _propagators(environ: Mapping[str, str]) -> Iterator[Finding]:
    for part in environ.get("OTEL_PROPAGATORS", "").split(","):
        name = part.strip()
        if name and name != "none" and not entry_points(group="opentelemetry_propagator", name=name):
            known = sorted(entry.name for entry in entry_points(group="opentelemetry_propagator"))
            yield report.error(
                f"OTEL_PROPAGATORS={name}: there is no such propagator, and the app does not start",
                f"use one of {', '.join(known)}, or install its package (opentelemetry-propagator-{name})",
            )


def _exporters(target: Target) -> Iterator[Finding]:
    config, provider = target.config, target.provider
    if config is not None and not config.tracing:
        yield report.ok("tracing is off")
        return
    asked = target.signals()
    for signal, setting in ((METRICS, "metrics_push=True"), (LOGS, 'log_stream="otlp"')):
        if {*signal.named()} - {"none"} and signal not in (each for each, _ in asked):
            yield report.ok(f"OTEL_{signal.variable}_EXPORTER is not read here: {setting} sends {signal.what}")
    for signal, _ in asked:
        yield from _missing(signal, "otlp", target.environ)
    own = provider is not None and not isinstance(provider, (BoundedTracerProvider, LocalTracerProvider))
    if own:
        yield report.ok(f"the app brings its own TracerProvider ({type(provider).__qualname__})")
        return
    names = TRACES.named()
    for name in names:
        if name not in ("none", "console") and not name.startswith("otlp"):
            yield from _missing(TRACES, name, target.environ)
    if "none" in names:
        yield report.warning(
            "OTEL_TRACES_EXPORTER=none: spans have ids and go nowhere",
            "set it to otlp, or unset it and name an endpoint",
        )
    elif not names and not TRACES.has_endpoint():
        yield report.ok("no exporter and no endpoint is named: spans have ids and go nowhere")


def _missing(signal: Signal, name: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    if name == "otlp":
        name = "otlp_proto_grpc" if protocol_of(signal, environ) == "grpc" else "otlp_proto_http"
    if not entry_points(group=signal.group, name=name):
        yield report.error(
            f"the {signal.noun} {name!r} is not installed, so no {signal.what} are sent",
            f"pip install {PACKAGES[name]}"
            if name in PACKAGES
            else f"install its package, or mend OTEL_{signal.variable}_EXPORTER",
        )


def protocol_of(signal: Signal, environ: Mapping[str, str]) -> str:
    """Return how OTLP is spoken."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal.variable}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    return (environ.get(own) or environ.get(common) or "http/protobuf").strip().lower()


def _sampler(target: Target) -> Iterator[Finding]:
    named = target.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if named and named not in SAMPLERS and not entry_points(group="opentelemetry_traces_sampler", name=named):
        yield report.warning(
            f"OTEL_TRACES_SAMPLER={named} is no sampler: the SDK samples everything instead",
            f"use one of {', '.join(SAMPLERS)}",
        )
    ratio = target.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if named.endswith("traceidratio") and not _is_ratio(ratio):
        yield report.warning(
            f"OTEL_TRACES_SAMPLER_ARG={ratio!r} is no share: the SDK samples everything instead",
            "set it to a number from 0 to 1, such as 0.1",
        )
    sampler = getattr(target.provider, "sampler", None)
    if sampler is None:
        return
    text: str = sampler.get_description()
    root = re.sub(r"^ParentBased\{root:(.*?),remoteParentSampled.*", r"\1", text)
    if root == "AlwaysOffSampler" or re.fullmatch(r"TraceIdRatioBased\{0(\.0*)?\}", root):
        remedy = "set OTEL_TRACES_SAMPLER=parentbased_traceidratio and OTEL_TRACES_SAMPLER_ARG=0.1, or mend the app's"
        yield report.warning(f"the sampler in force takes no request ({root})", remedy)
    else:
        yield report.ok(f"the sampler in force is {root}")


def _is_ratio(text: str) -> bool:
    try:
        return 0 <= float(text or 1) <= 1
    except ValueError:
        return False
