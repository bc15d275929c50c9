"""What happens on one route, and which request shows it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panels import heat
from .panels import limit
from .panels import lines
from .panels import query
from .panels import rows
from .panels import section
from .panels import stacked
from .panels import to_route
from .queries import APP
from .queries import client_errors
from .queries import DURATION
from .queries import ERRORS
from .queries import errors
from .queries import increase
from .queries import mean
from .queries import quantile
from .queries import RANGE
from .queries import rate
from .queries import ratio
from .queries import requests
from .queries import ROUTE
from .queries import slow
from .queries import where
from .slo import budget
from .variables import frame

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard

    from .panels import Panel
    from .slo import Slo

__all__ = ["route"]

BODY = "http_server_response_body_size_bytes"
TEMPLATE = "flask_template_render_duration_seconds"


def route(slo: Slo) -> dashboard.Dashboard:
    """Rate, errors and duration of the chosen routes."""
    board = frame(
        "route",
        "Route",
        "One route: choose it above, or click on it in a table of the overview. The dots in the latency open a trace.",
        *("job", "instance", "flask_app", "http_route"),
    )
    section(board, "Rate and errors", *rate_and_errors(slo))
    section(board, "Duration", *duration(slo))
    section(board, "Bodies", *bodies())
    section(board, "Exceptions and templates", exceptions(), templates())
    return board


def rate_and_errors(slo: Slo) -> list[Panel]:
    """Who asks, and what is answered."""
    return [
        stacked(
            "Requests by method",
            "Requests a second. A method that no standard knows is _OTHER.",
            "reqps",
            query(
                requests(ROUTE, by=("http_request_method", "url_scheme")), "{{http_request_method}} over {{url_scheme}}"
            ),
        ),
        stacked(
            "Requests by status",
            "Requests a second, by the status that was really sent; without one the client got none.",
            "reqps",
            query(requests(ROUTE, by=("http_response_status_code",)), "status {{http_response_status_code}}"),
        ),
        limit(
            lines(
                "Error ratio",
                "Share of requests that failed by the server's fault, and by the client's. The red line is the "
                "objective.",
                "percentunit",
                query(ratio(errors(ROUTE), requests(ROUTE)), "server errors"),
                query(ratio(client_errors(ROUTE), requests(ROUTE)), "4xx"),
            ),
            budget(slo.availability_objective),
        ),
        lines(
            "Server errors by type",
            "Requests a second that failed, by the class of the error that nobody handled, or by status. A stream that "
            "broke after its 200 is among them.",
            "reqps",
            query(requests(where(ROUTE, ERRORS), by=("error_type",)), "{{error_type}}"),
        ).span(24),
    ]


def duration(slo: Slo) -> list[Panel]:
    """How long it takes, with requests to look at."""
    return [
        limit(
            lines(
                "Latency with traces",
                "Quantiles; each dot is one request with a trace to open (Prometheus keeps them with "
                "--enable-feature=exemplar-storage). The red line is what the objective calls slow.",
                "s",
                *(
                    query(quantile(q, selector=ROUTE), f"p{q * 100:.0f}", exemplars=q == TRACED)
                    for q in (0.5, 0.95, TRACED)
                ),
            ).span(12),
            slo.latency_threshold_seconds,
        ),
        heat(
            "Latency distribution",
            "Requests a second in each bucket of duration.",
            rate(f"{DURATION}_bucket", ROUTE, by=("le",)),
        ).span(12),
        lines(
            "95th percentile by route",
            "To tell the chosen routes apart. Without a name: URLs that no route matched.",
            "s",
            query(
                quantile(0.95, selector=ROUTE, by=("http_request_method", "http_route")),
                "{{http_request_method}} {{http_route}}",
            ),
        ).span(12),
        limit(
            lines(
                "Slow requests",
                f"Share of requests that took longer than {slo.latency_threshold_seconds:g} s. The red line is the "
                "objective.",
                "percentunit",
                query(
                    ratio(slow(ROUTE, threshold_seconds=slo.latency_threshold_seconds), requests(ROUTE)),
                    f"longer than {slo.latency_threshold_seconds:g} s",
                ),
            ).span(12),
            budget(slo.latency_objective),
        ),
    ]


TRACED = 0.99


def bodies() -> list[Panel]:
    """How much is sent."""
    return [
        lines(
            "Body size",
            "Of response bodies as they were sent.",
            "bytes",
            query(mean(BODY, ROUTE), "mean"),
            *(query(quantile(q, BODY, ROUTE), f"p{q * 100:.0f}") for q in (0.5, 0.95)),
        ).span(12),
        stacked(
            "Bytes sent",
            "Bytes of response bodies a second, by status.",
            "Bps",
            query(
                rate(f"{BODY}_sum", ROUTE, by=("http_response_status_code",)), "status {{http_response_status_code}}"
            ),
        ).span(12),
    ]


def exceptions() -> Panel:
    """What no error handler answered, here."""
    by = ("flask_app", "http_route", "exception_type")
    return rows(
        "Exceptions",
        "Errors that no error handler of the app answered, over the time shown. An empty route stands for the URLs "
        "that no route matched.",
        "short",
        {"exceptions": increase("flask_exceptions_total", ROUTE, by=by)},
        sort="exceptions",
    ).data_links([to_route()])


def templates() -> Panel:
    """What the app renders; a template does not know its route."""
    by = ("flask_app", "template")
    return rows(
        "Templates of the app",
        "Over the time shown, of the chosen apps. Metrics do not tell which route rendered a template, traces do.",
        "s",
        {
            "mean": mean(TEMPLATE, APP, by=by, window=RANGE),
            "p95": quantile(0.95, TEMPLATE, APP, by=by, window=RANGE),
            "time spent": rate(f"{TEMPLATE}_sum", APP, by=by, window=RANGE),
        },
        sort="p95",
    )
