"""Recording rules: what is expensive to ask and asked often, worked out once for each app and each route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import TYPE_CHECKING

from . import queries
from .queries import DURATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .slo import Slo

__all__ = ["APP", "ERRORS", "ROUTE", "SLOW", "WINDOWS", "Scope", "of_apps", "of_routes", "total_over"]

Rule = dict[str, Any]

ERRORS = "errors"
SLOW = "slow"
"""What a request can do wrong: end in a server error, or take longer than the objective's threshold."""

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""Of the burn-rate alerts; the window of the objective itself comes on top for apps."""

QUANTILES = (0.5, 0.95, 0.99)

SECONDS = {"m": 60, "h": 3600, "d": 86400}
STEPS_OF_A_MINUTE_UP_TO_SECONDS = 6 * 3600
"""A longer window is summed up in steps of five minutes, the whole of its ``rate5m``."""


@dataclass(frozen=True)
class Scope:
    """What rules tell apart: apps, or the routes of each."""

    prefix: str
    labels: tuple[str, ...]
    selector: str = ""

    def requests(self) -> str:
        """Name the requests a second."""
        return f"{self.prefix}:http_server_requests:rate5m"

    def rate(self, kind: str) -> str:
        """Name the requests a second that went wrong, 0 where none did."""
        return f"{self.prefix}:http_server_{kind}:rate5m"

    def ratio(self, kind: str, window: str) -> str:
        """Name the share of the requests that went wrong."""
        return f"{self.prefix}:http_server_{kind}:ratio_rate{window}"

    def quantile(self) -> str:
        """Name the quantiles of the duration, told apart by ``quantile``."""
        return f"{self.prefix}:{DURATION}:quantile_rate5m"

    def active(self) -> str:
        """Name the requests in flight."""
        return f"{self.prefix}:http_server_active_requests:sum"

    def apdex(self) -> str:
        """Name the Apdex."""
        return f"{self.prefix}:http_server_requests:apdex_rate5m"


APP = Scope("flask_app", ("job", "flask_app"))
ROUTE = Scope("flask_app_http_route", ("job", "flask_app", "http_route"), 'http_route!=""')
"""Requests that match no route are their app's alone: nobody owns them."""


def of_apps(slo: Slo) -> list[Rule]:
    """Return the rules by app, those first that others read."""
    windows = dict.fromkeys((*WINDOWS, f"{slo.window_days}d"))
    apdex = queries.apdex(
        satisfied_seconds=slo.apdex_satisfied_seconds,
        tolerated_seconds=slo.apdex_tolerated_seconds,
        by=APP.labels,
        window="5m",
    )
    return [
        *_rates(APP, slo),
        *_ratios(APP, windows),
        *(_quantile(APP, q) for q in QUANTILES),
        _rule(APP.apdex(), apdex),
        _rule(APP.active(), queries.total("http_server_active_requests", by=APP.labels)),
    ]


def of_routes(slo: Slo) -> list[Rule]:
    """Return the rules by route: as many series for each as an app has routes, so no more than are asked for."""
    return [*_rates(ROUTE, slo), *_ratios(ROUTE, WINDOWS), _quantile(ROUTE, 0.99)]


def total_over(rate: str, window: str) -> str:
    """Count what a recorded ``rate5m`` stands for in a window, however often the rule is evaluated."""
    step = _step(window)
    return f"sum_over_time({rate}[{window}:{step}]) * {_seconds(step)}"


def _rates(scope: Scope, slo: Slo) -> list[Rule]:
    by, selector = scope.labels, scope.selector
    slow = queries.slow(selector, threshold_seconds=slo.latency_threshold_seconds, by=by, window="5m")
    # 0 where nothing went wrong: a sum over a window needs a value for every moment in it.
    return [
        _rule(scope.requests(), queries.requests(selector, by=by, window="5m")),
        _rule(scope.rate(ERRORS), f"{queries.errors(selector, by=by, window='5m')} or 0 * {scope.requests()}"),
        _rule(scope.rate(SLOW), f"clamp_min({slow}, 0)"),
    ]


def _ratios(scope: Scope, windows: Iterable[str]) -> list[Rule]:
    return [
        _rule(scope.ratio(kind, window), _ratio(scope, kind, window)) for kind in (ERRORS, SLOW) for window in windows
    ]


def _ratio(scope: Scope, kind: str, window: str) -> str:
    """Divide sums, not rates: a quiet hour weighs as little as it should."""
    if window == "5m":
        return f"{scope.rate(kind)} / ({scope.requests()} > 0)"
    part, whole = (f"sum_over_time({name}[{window}:{_step(window)}])" for name in (scope.rate(kind), scope.requests()))
    return f"{part} / ({whole} > 0)"


def _quantile(scope: Scope, q: float) -> Rule:
    expression = queries.quantile(q, selector=scope.selector, by=scope.labels, window="5m")
    return {**_rule(scope.quantile(), expression), "labels": {"quantile": f"{q:g}"}}


def _rule(record: str, expression: str) -> Rule:
    return {"record": record, "expr": expression}


def _step(window: str) -> str:
    return "1m" if _seconds(window) <= STEPS_OF_A_MINUTE_UP_TO_SECONDS else "5m"


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]
