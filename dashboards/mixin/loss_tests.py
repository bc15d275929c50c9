"""Tests of the alerts on lost audit records and telemetry."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .promtool import case
from .promtool import fires
from .promtool import rising
from .promtool import series

if TYPE_CHECKING:
    from .slo import Slo

__all__ = ["loss_cases"]

AT = {"job": "web", "instance": "a"}
MINUTE = 100
ONE_SO_FAR = "_x95 1x20"
"""A counter that appears with its first event: it never rises."""
FROM_THE_START = "_x80 0x14 1x20"
"""A counter that appears with its process, at 0."""
NONE = "_x95 0x20"
LONG_AGO = "3x120"
RISING = rising((0, 90), (2, 30), start=5)
INSTANCES = {
    "first": ONE_SO_FAR,
    "from-the-start": FROM_THE_START,
    "none": NONE,
    "old": LONG_AGO,
    "rising": RISING,
}

# alert, counter, labels that stay, labels that fall away, value told at minute 100
COUNTED = (
    ("FlaskAuditRecordsLost", "flask_audit_records_total", {}, {"outcome": "lost"}),
    ("FlaskTelemetryDropped", "observability_dropped_total", {"sink": "logs", "reason": "queue_full"}, {}),
    ("FlaskTelemetryErrors", "observability_errors_total", {"sink": "tracing", "stage": "finish"}, {}),
    ("FlaskSeriesOverflow", "observability_series_overflow_total", {"metric": "flask_exceptions_total"}, {}),
)


def loss_cases(slo: Slo) -> list[dict[str, Any]]:
    """Return all of them."""
    return [_counted(slo), _other_outcomes(slo), _spans(slo)]


def _counted(slo: Slo) -> dict[str, Any]:
    """One event is told, though its counter never rises; old ones are not; new ones of an old counter are."""
    inputs, checks = {}, []
    for alert, counter, kept, dropped in COUNTED:
        for instance, values in INSTANCES.items():
            inputs[series(counter, {**AT, "instance": instance, **kept, **dropped})] = values
        # Ten rises of 2, seen through 15 minutes of which Prometheus has samples for all.
        told = (("first", "1"), ("from-the-start", "1"), ("rising", "20"))
        checks.append(fires(slo, alert, MINUTE, *(("", {**AT, "instance": i, **kept}, value) for i, value in told)))
    return case("an event that is lost is told once it happened, and not for ever", inputs, alert_checks=checks)


def _other_outcomes(slo: Slo) -> dict[str, Any]:
    inputs = {
        series("flask_audit_records_total", {**AT, "outcome": "written"}): RISING,
        series("observability_dropped_total", {**AT, "sink": "tracing", "reason": "export"}): RISING,
    }
    checks = [fires(slo, alert, MINUTE) for alert in ("FlaskAuditRecordsLost", "FlaskTelemetryDropped")]
    return case("records that were written, and spans that have an alert of their own", inputs, alert_checks=checks)


def _spans(slo: Slo) -> dict[str, Any]:
    exported = "otel_sdk_exporter_span_exported_total"
    inputs = {}
    # Half as many again, and half as many, as may fail; and a program that is no Flask app.
    for instance, failing in (("broken", 15), ("well", 5), ("another", 50)):
        at = {**AT, "instance": instance}
        if instance != "another":
            inputs[series("flask_app_info", {**at, "flask_app": "shop"})] = "1x60"
        inputs[series(exported, {**at, "error_type": ""})] = rising((1000 - failing, 60))
        inputs[series(exported, {**at, "error_type": "ConnectionError"})] = rising((failing, 60))
    expected = ("", {**AT, "instance": "broken"}, "1.5%")
    check = fires(slo, "FlaskSpansNotExported", 30, expected)
    return case(
        "a collector that refuses 15 spans in a thousand, one that refuses 5, and another program",
        inputs,
        alert_checks=[check],
    )
