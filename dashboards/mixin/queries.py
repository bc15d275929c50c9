"""PromQL by name, built from the catalogue's names; panels, rules and alerts take theirs from here."""

from __future__ import annotations

from flask_signal_observability.catalogue import DURATION_BUCKETS_SECONDS
from flask_signal_observability.catalogue import METRICS
from flask_signal_observability.catalogue import RUNTIME_METRICS

__all__ = [
    "APP",
    "DURATION",
    "ERRORS",
    "PROCESS",
    "RANGE",
    "ROUTE",
    "SCRAPE_METRICS",
    "WINDOW",
    "apdex",
    "bound",
    "changes",
    "client_errors",
    "errors",
    "increase",
    "mean",
    "padded",
    "quantile",
    "rate",
    "ratio",
    "requests",
    "slow",
    "total",
    "where",
]

PROCESS = 'job=~"$job", instance=~"$instance"'
APP = f'{PROCESS}, flask_app=~"$flask_app"'
ROUTE = f'{APP}, http_route=~"$http_route"'
"""What the variables of a dashboard select. A rule gives a selector of its own, or none: ``""``."""

WINDOW = "$__rate_interval"
"""Grafana's: never shorter than four scrapes. A rule gives its own."""

RANGE = "$__range"
"""All that the dashboard shows: what tables sum up. Over it events are counted, elsewhere they are rated."""

ERRORS = 'error_type!=""'
"""Requests that ended in an error nobody handled, or in any other 5xx."""

DURATION = "http_server_request_duration_seconds"


def where(*matchers: str) -> str:
    """Join matchers into a selector; empty ones fall away."""
    return ", ".join(matcher for matcher in matchers if matcher)


def total(
    metric: str,
    selector: str = "",
    *,
    by: tuple[str, ...] = (),
    function: str = "sum",
    offset: str = "",
    app: str = "",
) -> str:
    """Aggregate a gauge.

    ``app`` is the selector of an app: of a metric that other programs have, too, such as ``up``, it leaves the series
    of those targets that serve one. An app that is down is one of them for as long as the dashboard looks back.
    """
    _known(metric)
    return f"{_over(function, by)}({_serving(f'{metric}{{{selector}}}{_ago(offset)}', app)})"


def rate(
    metric: str,
    selector: str = "",
    *,
    by: tuple[str, ...] = (),
    window: str = WINDOW,
    offset: str = "",
    app: str = "",
) -> str:
    """Events a second of a counter, or of a histogram's ``_count``, ``_sum`` or ``_bucket``; summed.

    Over `RANGE` they are counted, as `increase` does; but of buckets, which are only compared with each other, the
    first event of a series is left out. ``app`` as for `total`.
    """
    if window == RANGE and not metric.endswith("_bucket"):
        return increase(metric, selector, by=by, app=app)
    _known(metric)
    function = "increase" if window == RANGE else "rate"
    each = f"{function}({metric}{{{selector}}}[{window}]{_ago(offset)})"
    return f"{_over('sum', by)}({_serving(each, app)})"


def increase(metric: str, selector: str = "", *, by: tuple[str, ...] = (), window: str = RANGE, app: str = "") -> str:
    """Events of a counter in the window, those included with which a series was born; summed.

    A counter of an open set of labels begins with its first event, and ``increase`` sees only what is added to that.
    A series that was there in the hour before the window was not born in it. ``app`` as for `total`.
    """
    _known(metric)
    series = f"{metric}{{{selector}}}"
    grown = f"increase({series}[{window}])"
    born = f"min_over_time({series}[{window}]) unless last_over_time({series}[1h] offset {window})"
    each = f"{grown} + ({born}) or {born} or {grown}"
    return f"{_over('sum', by)}({_serving(f'({each})' if app else each, app)})"


def changes(metric: str, selector: str = "", *, by: tuple[str, ...] = (), window: str = RANGE, app: str = "") -> str:
    """How often a gauge took another value in the window; summed. ``app`` as for `total`."""
    _known(metric)
    return f"{_over('sum', by)}({_serving(f'changes({metric}{{{selector}}}[{window}])', app)})"


def requests(selector: str = "", *, by: tuple[str, ...] = (), window: str = WINDOW, offset: str = "") -> str:
    """Requests a second."""
    return rate(f"{DURATION}_count", selector, by=by, window=window, offset=offset)


def errors(selector: str = "", *, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Requests a second that ended in a server error."""
    return requests(where(selector, ERRORS), by=by, window=window)


def client_errors(selector: str = "", *, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Requests a second that were answered with a 4xx."""
    return requests(where(selector, 'http_response_status_code=~"4.."'), by=by, window=window)


def slow(selector: str = "", *, threshold_seconds: float, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Requests a second that took longer than a bucket bound."""
    quick = rate(f"{DURATION}_bucket", where(selector, bound(threshold_seconds)), by=by, window=window)
    return f"({requests(selector, by=by, window=window)} - {quick})"


def ratio(part: str, whole: str) -> str:
    """Share of the whole: 0 where the part has no series yet, nothing where there is no traffic at all."""
    return f"{padded(part, whole)} / ({whole} > 0)"


def padded(part: str, whole: str) -> str:
    """Add a 0 where only the whole has a series: a counter begins with its first event."""
    return f"({part} or 0 * {whole})"


def quantile(
    q: float,
    metric: str = DURATION,
    selector: str = "",
    *,
    by: tuple[str, ...] = (),
    window: str = WINDOW,
) -> str:
    """Quantile of a histogram; nothing, rather than NaN, where nothing was observed."""
    return f"(histogram_quantile({q}, {rate(f'{metric}_bucket', selector, by=('le', *by), window=window)}) >= 0)"


def mean(metric: str, selector: str = "", *, by: tuple[str, ...] = (), window: str = WINDOW) -> str:
    """Mean of a histogram; nothing where nothing was observed."""
    sums = rate(f"{metric}_sum", selector, by=by, window=window)
    return f"{sums} / ({rate(f'{metric}_count', selector, by=by, window=window)} > 0)"


def apdex(
    selector: str = "",
    *,
    satisfied_seconds: float,
    tolerated_seconds: float,
    by: tuple[str, ...] = (),
    window: str = WINDOW,
) -> str:
    """Apdex, 0 to 1; both durations are bucket bounds.

    Buckets add up, so half the sum of both counts a satisfied request once and a tolerated one half. A server error
    is nobody's satisfaction, however fast it came.
    """
    good = where(selector, 'error_type=""')
    satisfied = rate(f"{DURATION}_bucket", where(good, bound(satisfied_seconds)), by=by, window=window)
    tolerated = rate(f"{DURATION}_bucket", where(good, bound(tolerated_seconds)), by=by, window=window)
    whole = requests(selector, by=by, window=window)
    return f"{padded(f'{satisfied} + {tolerated}', whole)} / 2 / ({whole} > 0)"


def bound(seconds: float) -> str:
    """Match the bucket of one bound.

    A scrape calls it ``1.0``, metrics that were pushed over OTLP call it ``1``.

    Raises:
        ValueError: no bucket of the request duration ends there.
    """
    if seconds not in DURATION_BUCKETS_SECONDS:
        raise ValueError(f"{seconds!r} is no bucket bound: give one of {DURATION_BUCKETS_SECONDS}")
    return f'le=~"{seconds:g}|{seconds:.1f}"' if seconds == int(seconds) else f'le="{seconds:g}"'


def _serving(series: str, app: str) -> str:
    return f"{series} and on (job, instance) last_over_time(flask_app_info{{{app}}}[{RANGE}])" if app else series


def _ago(offset: str) -> str:
    return f" offset {offset}" if offset else ""


def _over(function: str, by: tuple[str, ...]) -> str:
    return f"{function} by ({', '.join(by)}) " if by else function


def _known(metric: str) -> None:
    """Refuse a name that no app exposes, such as a misspelt one.

    Raises:
        ValueError: neither the catalogue nor Prometheus itself has it.
    """
    family = metric
    for suffix in ("_bucket", "_count", "_sum"):
        family = family.removesuffix(suffix)
    if family not in METRICS and family not in RUNTIME_METRICS and metric not in SCRAPE_METRICS:
        raise ValueError(f"{metric!r} is not in the catalogue")


SCRAPE_METRICS = ("scrape_duration_seconds", "scrape_samples_scraped", "up")
"""What every scrape adds by itself, Prometheus' own or that of a collector which pushes on what it scraped."""
