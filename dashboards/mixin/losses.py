"""Alerts on what the observability package itself failed to do."""

from __future__ import annotations

from .alert import Alert
from .alert import OF_FLASK

__all__ = ["audit_alerts", "telemetry_alerts"]

VARIABLES = ("job", "instance")
FAILED_EXPORTS_RATIO = 0.01


def audit_alerts() -> list[Alert]:
    """Return the alert on lost audit records."""
    return [
        Alert(
            name="FlaskAuditRecordsLost",
            expr=_lately('flask_audit_records_total{outcome="lost"}', "15m", by=VARIABLES),
            severity="page",
            wait="0m",
            summary="{{ $labels.instance }} of {{ $labels.job }} loses audit records.",
            description="{{ $value | humanize }} audit records of {{ $labels.instance }}, job {{ $labels.job }}, could"
            " not be written in the last 15m. The requests went on, so what happened in them is in no audit file.",
            dashboard="telemetry",
            variables=VARIABLES,
        )
    ]


def telemetry_alerts() -> list[Alert]:
    """Return the alerts on telemetry that did not get through."""
    return [_dropped(), _errors(), _spans_not_exported(), _series_overflow()]


def _dropped() -> Alert:
    return Alert(
        name="FlaskTelemetryDropped",
        # Failed exports have an alert of their own, which knows how many succeeded.
        expr=_lately('observability_dropped_total{reason!="export"}', "15m", by=(*VARIABLES, "sink", "reason")),
        severity="ticket",
        wait="0m",
        summary="{{ $labels.instance }} of {{ $labels.job }} drops telemetry: {{ $labels.sink }},"
        " {{ $labels.reason }}.",
        description="{{ $value | humanize }} items of {{ $labels.sink }} were dropped by {{ $labels.instance }}, job"
        " {{ $labels.job }}, in the last 15m; the reason is {{ $labels.reason }}. No request noticed.",
        dashboard="telemetry",
        variables=VARIABLES,
    )


def _errors() -> Alert:
    return Alert(
        name="FlaskTelemetryErrors",
        expr=_lately("observability_errors_total", "15m", by=(*VARIABLES, "sink", "stage")),
        severity="ticket",
        wait="0m",
        summary="The observability of {{ $labels.instance }} ({{ $labels.job }}) fails: {{ $labels.sink }} at"
        " {{ $labels.stage }}.",
        description="{{ $value | humanize }} failures of {{ $labels.sink }} at {{ $labels.stage }} were kept from the"
        " requests of {{ $labels.instance }}, job {{ $labels.job }}, in the last 15m. What this sink should have told"
        " of them is missing.",
        dashboard="telemetry",
        variables=VARIABLES,
    )


def _spans_not_exported() -> Alert:
    exported = "otel_sdk_exporter_span_exported_total"
    by = ", ".join(VARIABLES)
    return Alert(
        name="FlaskSpansNotExported",
        expr=(
            f'sum by ({by}) (rate({exported}{{error_type!=""}}[15m]))\n'
            f"  / sum by ({by}) (rate({exported}[15m])) > {FAILED_EXPORTS_RATIO:g}\n{OF_FLASK}"
        ),
        severity="ticket",
        wait="15m",
        summary="Spans of {{ $labels.instance }} ({{ $labels.job }}) do not reach the collector.",
        description="{{ $value | humanizePercentage }} of the spans of {{ $labels.instance }}, job {{ $labels.job }},"
        " were given up in the last 15m: their traces are missing or have holes.",
        dashboard="telemetry",
        variables=VARIABLES,
    )


def _series_overflow() -> Alert:
    return Alert(
        name="FlaskSeriesOverflow",
        expr=_lately("observability_series_overflow_total", "1h", by=(*VARIABLES, "metric")),
        severity="ticket",
        wait="0m",
        summary="{{ $labels.metric }} of {{ $labels.instance }} ({{ $labels.job }}) has more label values than fit.",
        description="{{ $value | humanize }} observations of {{ $labels.metric }} were counted as _OTHER in the last"
        " hour on {{ $labels.instance }}, job {{ $labels.job }}: they are in the totals and in no breakdown.",
        dashboard="telemetry",
        variables=VARIABLES,
    )


def _lately(counter: str, window: str, *, by: tuple[str, ...]) -> str:
    """Count events in the window, the very first one of a series included: it is born with it, and never rises."""
    return (
        f"sum by ({', '.join(by)}) (\n"
        f"  increase({counter}[{window}]) > 0\n"
        f"  or {counter} unless last_over_time({counter}[1h] offset {window})\n"
        ") > 0"
    )
