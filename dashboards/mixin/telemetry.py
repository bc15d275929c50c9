"""Can what the other dashboards show be believed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panels import count
from .panels import lines
from .panels import query
from .panels import section
from .panels import stacked
from .panels import steps
from .queries import increase
from .queries import PROCESS
from .queries import rate
from .queries import where
from .variables import frame

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard

    from .panels import Panel

__all__ = ["telemetry"]

SPANS = "otel_sdk_exporter_span_exported_total"
DELIVERED = 'error_type=""'
UNDELIVERED = 'error_type!=""'

LOSSES = {
    "Own failures": ("observability_errors_total", "", "", "Failures inside the package; no request noticed them."),
    "Dropped": ("observability_dropped_total", "", "", "Spans and records that could not be handed on."),
    "Overflows": (
        "observability_series_overflow_total",
        "",
        "",
        "Observations counted under _OTHER: a limit was reached.",
    ),
    "Audit records lost": (
        "flask_audit_records_total",
        'outcome="lost"',
        "",
        "Lines that never reached the audit file.",
    ),
    "Spans not delivered": (SPANS, UNDELIVERED, PROCESS, "Spans whose export ended in an error."),
}
"""By title: the counter, which of its series, the targets to leave if other programs have it, and what it tells."""


def telemetry() -> dashboard.Dashboard:
    """The health of the observation itself."""
    board = frame(
        "telemetry",
        "Telemetry health",
        "What was lost on the way: own failures, dropped spans, series limits, audit records. All should be 0.",
        *("job", "instance"),
    )
    section(board, "Lost in this time", *losses())
    section(board, "Where and why", *causes())
    section(board, "Handed on", *handed_on())
    return board


def losses() -> list[Panel]:
    """One number for each kind of loss."""
    panels = [
        count(title, text, increase(metric, where(PROCESS, only), app=app)).thresholds(steps((1, "red")))
        for title, (metric, only, app, text) in LOSSES.items()
    ]
    return [*panels[:-1], panels[-1].span(8)]


def causes() -> list[Panel]:
    """Which output, at which stage, for which reason."""
    return [
        lines(
            "Own failures by place",
            "A second, by sink and stage; the log of the app has one record a minute for each, with the traceback.",
            "cps",
            query(rate("observability_errors_total", PROCESS, by=("sink", "stage")), "{{sink}}, {{stage}}"),
        ),
        lines(
            "Dropped by reason",
            "A second, by sink and reason. The collector is down, slow, or refuses; or a queue is too short.",
            "cps",
            query(rate("observability_dropped_total", PROCESS, by=("sink", "reason")), "{{sink}}, {{reason}}"),
        ),
        lines(
            "Overflows by metric",
            "Observations a second under _OTHER. Raise max_routes, max_label_values or max_series, or find the label "
            "that has too many values.",
            "cps",
            query(rate("observability_series_overflow_total", PROCESS, by=("metric",)), "{{metric}}"),
        ),
    ]


def handed_on() -> list[Panel]:
    """What did arrive."""
    return [
        stacked(
            "Audit records",
            "Records a second by outcome: written or lost.",
            "cps",
            query(rate("flask_audit_records_total", PROCESS, by=("outcome",)), "{{outcome}}"),
        ).span(12),
        stacked(
            "Spans exported",
            "Spans a second whose export has ended: delivered, or by the error that it ended with.",
            "cps",
            query(rate(SPANS, where(PROCESS, DELIVERED), app=PROCESS), "delivered"),
            query(rate(SPANS, where(PROCESS, UNDELIVERED), by=("error_type",), app=PROCESS), "{{error_type}}"),
        ).span(12),
    ]
