"""Is the app well, and if not: since when, and which route?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.models.common import BigValueGraphMode

from .panels import heat
from .panels import limit
from .panels import lines
from .panels import number
from .panels import query
from .panels import rows
from .panels import section
from .panels import steps
from .panels import to_route
from .queries import apdex
from .queries import APP
from .queries import client_errors
from .queries import DURATION
from .queries import errors
from .queries import padded
from .queries import quantile
from .queries import RANGE
from .queries import rate
from .queries import ratio
from .queries import requests
from .queries import ROUTE
from .queries import total
from .slo import budget
from .variables import frame

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.builders import stat
    from grafana_foundation_sdk.builders import timeseries

    from .panels import Panel
    from .slo import Slo

__all__ = ["overview"]

BY_APP = ("flask_app",)
BY_ROUTE = ("flask_app", "http_route")
RECORDED = 'job=~"$job", flask_app=~"$flask_app"'
"""Recorded series are summed over instances and routes."""


def overview(slo: Slo) -> dashboard.Dashboard:
    """Everything about an app on one page."""
    board = frame(
        "overview",
        "Overview",
        "Rate, errors and duration of an app's requests, what is left of its error budget, and the routes to look at.",
        *("job", "instance", "flask_app", "http_route"),
    )
    section(board, "Now", *now(slo))
    section(board, "Objectives", *objectives(slo))
    section(board, "Traffic", *traffic(slo))
    section(board, "Routes", slowest(), failing())
    return board


def now(slo: Slo) -> list[stat.Panel]:
    """Six numbers."""
    return [
        number("Request rate", "Requests a second, of all methods and outcomes.", "reqps", requests(ROUTE)),
        number(
            "Error ratio",
            "Share of requests that ended in an error nobody handled, or in any other 5xx. Red: more than the "
            "objective allows in the long run.",
            "percentunit",
            ratio(errors(ROUTE), requests(ROUTE)),
        ).thresholds(steps((budget(slo.availability_objective), "red"))),
        number(
            "4xx ratio",
            "Share of requests that were answered with a 4xx. Clients cause them; a jump after a deploy is a broken "
            "link.",
            "percentunit",
            ratio(client_errors(ROUTE), requests(ROUTE)),
        ).thresholds(steps((0.05, "yellow"), (0.25, "orange"))),
        number(
            "Latency, 95th percentile",
            "19 of 20 requests are quicker than this.",
            "s",
            quantile(0.95, selector=ROUTE),
        ).thresholds(steps((slo.latency_threshold_seconds, "yellow"), (4 * slo.latency_threshold_seconds, "red"))),
        number(
            "Apdex",
            f"1: everybody is satisfied (within {slo.apdex_satisfied_seconds:g} s, no server error). Who waits up to "
            f"{slo.apdex_tolerated_seconds:g} s counts half.",
            "none",
            apdex(
                ROUTE,
                satisfied_seconds=slo.apdex_satisfied_seconds,
                tolerated_seconds=slo.apdex_tolerated_seconds,
            ),
        )
        .decimals(3)
        .thresholds(steps((0.7, "orange"), (0.85, "yellow"), (0.94, "green"), base="red")),
        number(
            "In progress",
            "Requests that have begun and not ended, streamed bodies among them. It has no route.",
            "none",
            total("http_server_active_requests", APP),
        ),
    ]


def objectives(slo: Slo) -> list[stat.Panel | timeseries.Panel]:
    """What is left of the error budgets, and how fast they go; from the recording rules."""
    failed = f"flask_app:http_server_errors:ratio_rate{{window}}{{{{{RECORDED}}}}}"
    slow = f"flask_app:http_server_slow:ratio_rate{{window}}{{{{{RECORDED}}}}}"
    return [
        left(
            "Error budget left",
            f"Of the {budget(slo.availability_objective):.4g} of requests that may fail in {slo.window_days} days: the "
            f"part that is left, of the worst app. Below 0 the promise is broken. {keeps(slo)}",
            failed.format(window=f"{slo.window_days}d"),
            slo.availability_objective,
        ),
        left(
            "Latency budget left",
            f"Of the {budget(slo.latency_objective):.4g} of requests that may take longer than "
            f"{slo.latency_threshold_seconds:g} s in {slo.window_days} days: the part that is left, of the worst app. "
            f"{keeps(slo)}",
            slow.format(window=f"{slo.window_days}d"),
            slo.latency_objective,
        ),
        burn("Error budget burn", failed, slo.availability_objective),
        burn("Latency budget burn", slow, slo.latency_objective),
    ]


def keeps(slo: Slo) -> str:
    """Say what a budget is counted from."""
    return f"Needs the recording rules, and a Prometheus that keeps {slo.window_days} days: it counts what it has."


def left(title: str, description: str, recorded: str, objective: float) -> stat.Panel:
    """The part of a budget that nobody has used."""
    return (
        number(title, description, "percentunit", f"min(1 - {recorded} / {budget(objective):g})")
        .height(8)
        .decimals(1)
        .graph_mode(BigValueGraphMode.NONE)
        .thresholds(steps((0, "orange"), (0.25, "yellow"), (0.5, "green"), base="red"))
    )


def burn(title: str, recorded: str, objective: float) -> timeseries.Panel:
    """How many times too fast a budget goes."""
    windows = ("5m", "1h", "6h", "3d")
    return limit(
        lines(
            title,
            "1: the budget lasts just as long as it has to. 14.4 over an hour and 6 over six hours wake somebody. "
            "Summed over instances and routes. Needs the recording rules.",
            "none",
            *(
                query(f"{recorded.format(window=window)} / {budget(objective):g}", f"{{{{flask_app}}}}, {window}")
                for window in windows
            ),
        ).decimals(1),
        1,
    )


def traffic(slo: Slo) -> list[Panel]:
    """Rate, errors and duration over time."""
    return [
        lines(
            "Requests",
            "Requests a second of each app, and at the same time a week before.",
            "reqps",
            query(requests(ROUTE, by=BY_APP), "{{flask_app}}"),
            query(requests(ROUTE, by=BY_APP, offset="7d"), "{{flask_app}}, week before"),
        ),
        limit(
            lines(
                "Errors",
                "Share of requests that failed: by the server's fault, and with the 4xx added. The red line is the "
                "objective.",
                "percentunit",
                query(ratio(errors(ROUTE), requests(ROUTE)), "server errors"),
                query(
                    f"{ratio(errors(ROUTE), requests(ROUTE))} + {ratio(client_errors(ROUTE), requests(ROUTE))}",
                    "server errors and 4xx",
                ),
            ),
            budget(slo.availability_objective),
        ),
        limit(
            lines(
                "Latency",
                "Quantiles over all requests. The red line is what the objective calls slow.",
                "s",
                *(query(quantile(q, selector=ROUTE), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            ),
            slo.latency_threshold_seconds,
        ),
        heat(
            "Latency distribution",
            "Requests a second in each bucket of duration. Two bands are two kinds of request: a cache, a slow query.",
            rate(f"{DURATION}_bucket", ROUTE, by=("le",)),
        ),
        lines(
            "Apdex over time",
            "Of each app; see above.",
            "none",
            query(
                apdex(
                    ROUTE,
                    satisfied_seconds=slo.apdex_satisfied_seconds,
                    tolerated_seconds=slo.apdex_tolerated_seconds,
                    by=BY_APP,
                ),
                "{{flask_app}}",
            ),
        ).max(1),
        lines(
            "Requests in progress",
            "By method. What grows and does not fall waits for something: a database, a lock, a slow client.",
            "none",
            query(total("http_server_active_requests", APP, by=("http_request_method",)), "{{http_request_method}}"),
        ),
    ]


def slowest() -> Panel:
    """Lead to the routes that are to be made faster."""
    return rows(
        "Slowest routes",
        "Over the time shown; time spent is the sum of all requests. A click on a row opens its route; "
        "an empty one stands for the URLs that no route matched.",
        "s",
        {
            "p50": quantile(0.5, selector=ROUTE, by=BY_ROUTE, window=RANGE),
            "p95": quantile(0.95, selector=ROUTE, by=BY_ROUTE, window=RANGE),
            "time spent": rate(f"{DURATION}_sum", ROUTE, by=BY_ROUTE, window=RANGE),
        },
        sort="p95",
    ).data_links([to_route()])


def failing() -> Panel:
    """Lead to the routes that are to be mended."""
    whole = requests(ROUTE, by=BY_ROUTE, window=RANGE)
    return rows(
        "Most failing routes",
        "Requests over the time shown. A click on a row opens its route; an empty one stands for the URLs that no "
        "route matched.",
        "short",
        {
            "server errors": padded(errors(ROUTE, by=BY_ROUTE, window=RANGE), whole),
            "4xx": padded(client_errors(ROUTE, by=BY_ROUTE, window=RANGE), whole),
            "requests": whole,
        },
        sort="server errors",
    ).data_links([to_route()])
