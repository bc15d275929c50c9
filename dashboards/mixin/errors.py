"""What breaks, what is slow to render, and what does Flask say through its signals?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panels import count
from .panels import heat
from .panels import lines
from .panels import query
from .panels import rows
from .panels import section
from .panels import stacked
from .panels import steps
from .panels import to_route
from .queries import APP
from .queries import increase
from .queries import quantile
from .queries import rate
from .queries import requests
from .queries import ROUTE
from .queries import total
from .queries import where
from .variables import frame

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard

    from .panels import Panel

__all__ = ["errors"]

TEMPLATE = "flask_template_render_duration_seconds"


def errors() -> dashboard.Dashboard:
    """Exceptions, templates and signals."""
    board = frame(
        "errors",
        "Errors, templates and signals",
        "Exceptions by type and route, templates by what they cost, flashed messages, and Flask's ten signals.",
        *("job", "instance", "flask_app", "http_route"),
    )
    section(board, "Exceptions", *exceptions())
    section(board, "Templates", *templates())
    section(board, "Signals", *signals())
    return board


def exceptions() -> list[Panel]:
    """What no error handler answered, and what was answered with a 5xx."""
    by = ("flask_app", "http_route", "exception_type")
    return [
        count(
            "Exceptions in this time",
            "Errors that no error handler of the app answered.",
            increase("flask_exceptions_total", ROUTE),
        )
        .height(8)
        .thresholds(steps((1, "red"))),
        lines(
            "Exceptions by type",
            "Errors a second that no error handler answered, by class. Each is also a line in the error journal and "
            "an event on a span.",
            "cps",
            query(rate("flask_exceptions_total", ROUTE, by=("exception_type",)), "{{exception_type}}"),
        ).span(10),
        lines(
            "Answers with 5xx",
            "Requests a second, by status and route. More of them than exceptions: the app answers with a 5xx itself.",
            "reqps",
            query(
                requests(
                    where(ROUTE, 'http_response_status_code=~"5.."'), by=("http_route", "http_response_status_code")
                ),
                "{{http_response_status_code}} {{http_route}}",
            ),
        ).span(10),
        rows(
            "Top exceptions",
            "Over the time shown. A click on a route opens it; an empty one stands for the URLs that no route matched.",
            "short",
            {"exceptions": increase("flask_exceptions_total", ROUTE, by=by)},
            sort="exceptions",
        )
        .span(24)
        .data_links([to_route()]),
    ]


def templates() -> list[Panel]:
    """What is rendered, and how long it takes."""
    return [
        lines(
            "Render latency by template",
            "95th percentile of each template; one that is rendered from a string is <string>.",
            "s",
            query(quantile(0.95, TEMPLATE, APP, by=("template",)), "{{template}}"),
        ),
        heat(
            "Render distribution",
            "Renders a second in each bucket of duration.",
            rate(f"{TEMPLATE}_bucket", APP, by=("le",)),
        ),
        stacked(
            "Renders",
            "Renders a second by template. Many for each request are a loop that should be one template.",
            "cps",
            query(rate(f"{TEMPLATE}_count", APP, by=("template",)), "{{template}}"),
        ),
    ]


def signals() -> list[Panel]:
    """What Flask itself tells."""
    return [
        lines(
            "Signals sent",
            "Each of Flask's ten signals a second. More request_started than request_tearing_down: contexts leak.",
            "cps",
            query(rate("flask_signals_total", APP, by=("signal",)), "{{signal}}"),
        ),
        stacked(
            "Flashed messages",
            "Messages a second by category; their text is never recorded.",
            "cps",
            query(rate("flask_messages_flashed_total", APP, by=("category",)), "{{category}}"),
        ),
        lines(
            "App contexts",
            "Application contexts that were pushed and not popped. What only grows is a leak.",
            "none",
            query(total("flask_app_contexts_active", APP, by=("flask_app",)), "{{flask_app}}"),
        ),
    ]
