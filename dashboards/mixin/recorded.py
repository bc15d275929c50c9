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

__all__ = [
    "APP",
    "ERRORS",
    "ROUTE",
    "SLOW",
    "WINDOWS",
    "Rule",
    "Scope",
    "is_long",
    "of_apps",
    "of_apps_long",
    "of_routes",
    "of_routes_long",
    "total_over",
]

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
    there: str = ""
    """What has a series as long as there is something to be requested, if anything tells."""

    def requests(self) -> str:
        """Name the requests a second, 0 where there are none yet."""
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

    def workers(self) -> str:
        """Name the processes that serve."""
        return f"{self.prefix}:observability_workers:sum"

    def apdex(self) -> str:
        """Name the Apdex."""
        return f"{self.prefix}:http_server_requests:apdex_rate5m"


APP = Scope("flask_app", ("job", "flask_app"), there="count by (job, flask_app) (flask_app_info)")
ROUTE = Scope("flask_app_http_route", ("job", "flask_app", "http_route"), 'http_route!=""')
"""Requests that match no route are their app's alone: nobody owns them."""


def of_apps(slo: Slo) -> list[Rule]:
    """Return the rules by app, those first that others read."""
    apdex = queries.apdex(
        satisfied_seconds=slo.apdex_satisfied_seconds,
        tolerated_seconds=slo.apdex_tolerated_seconds,
        by=APP.labels,
        window="5m",
    )
    return [
        *_rates(APP, slo),
        *_ratios(APP, _short()),
        *(_quantile(APP, q) for q in QUANTILES),
        _rule(APP.apdex(), apdex),
        _rule(APP.active(), queries.total("http_server_active_requests", by=APP.labels)),
        _rule(APP.workers(), _workers()),
    ]


def of_apps_long(slo: Slo) -> list[Rule]:
    """Return the rules by app on windows that need not be looked at twice a minute."""
    return _ratios(APP, dict.fromkeys((*filter(is_long, WINDOWS), f"{slo.window_days}d")))


def of_routes(slo: Slo) -> list[Rule]:
    """Return the rules by route: as many series for each as an app has routes, so no more than are asked for."""
    return [*_rates(ROUTE, slo), *_ratios(ROUTE, _short()), _quantile(ROUTE, 0.99)]


def of_routes_long() -> list[Rule]:
    """Return the rules by route on windows that need not be looked at twice a minute."""
    return _ratios(ROUTE, filter(is_long, WINDOWS))


def is_long(window: str) -> bool:
    """Tell whether a window spans days."""
    return window.endswith("d")


def total_over(rate: str, window: str) -> str:
    """Count what a recorded ``rate5m`` stands for in a window, however often the rule is evaluated."""
    step = _step(window)
    return f"sum_over_time({rate}[{window}:{step}]) * {_seconds(step)}"


def _rates(scope: Scope, slo: Slo) -> list[Rule]:
    by, selector = scope.labels, scope.selector
    slow = queries.slow(selector, threshold_seconds=slo.latency_threshold_seconds, by=by, window="5m")
    requests = queries.requests(selector, by=by, window="5m")
    # 0 where nothing went wrong, or came: a sum over a window needs a value for every moment in it.
    return [
        _rule(scope.requests(), f"{requests} or 0 * {scope.there}" if scope.there else requests),
        _rule(scope.rate(ERRORS), f"{queries.errors(selector, by=by, window='5m')} or 0 * {scope.requests()}"),
        _rule(scope.rate(SLOW), f"clamp_min({slow}, 0)"),
    ]


def _workers() -> str:
    """Count the processes of each app: one where an instance does not tell of several."""
    instances = "max by (job, instance, flask_app) (flask_app_info)"
    workers = "max by (job, instance) (observability_workers)"
    return f"sum by (job, flask_app) ({instances} * on (job, instance) group_left {workers} or {instances})"


def _short() -> list[str]:
    return [window for window in WINDOWS if not is_long(window)]


def _ratios(scope: Scope, windows: Iterable[str]) -> list[Rule]:
    return [
        _rule(scope.ratio(kind, window), _ratio(scope, kind, window)) for window in windows for kind in (ERRORS, SLOW)
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
