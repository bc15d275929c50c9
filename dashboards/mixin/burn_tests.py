"""Tests of the burn-rate alerts: just above and just below each threshold, after a recovery, and with few requests."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .burn import budget_of
from .burn import BURNS
from .burn import name_of
from .promtool import case
from .promtool import fires
from .promtool import rising
from .promtool import series
from .queries import DURATION
from .recorded import APP
from .recorded import ERRORS
from .recorded import ROUTE
from .recorded import SLOW

if TYPE_CHECKING:
    from .burn import Burn
    from .recorded import Scope
    from .slo import Slo

__all__ = ["budget_cases"]

REQUESTS_A_MINUTE = 12_000
ABOVE = 1.25
BELOW = 0.8
WAITS_MINUTES = {"2m": 2, "15m": 15, "1h": 60, "3h": 180}
LABELS = {"job": "web", "flask_app": "shop", "http_route": "/orders/<int:number>"}
EVERY = [(scope, kind) for scope in (APP, ROUTE) for kind in (ERRORS, SLOW)]


def budget_cases(slo: Slo) -> list[dict[str, Any]]:
    """Return all of them."""
    few = [
        _few(slo, every_minutes=5, told={35: (), 60: ("1h",)}),
        _few(slo, every_minutes=20, told={190: (), 265: ("6h", "1d"), 385: ("6h", "1d", "3d")}),
    ]
    return [*(_near(slo, burn) for burn in BURNS), _recovered(slo), *few]


def _near(slo: Slo, burn: Burn) -> dict[str, Any]:
    """Steady traffic to two apps, of which a share goes wrong: each rate that is reached is told once it has lasted."""
    minute = WAITS_MINUTES[burn.wait] + 10
    apps = {"above": ABOVE, "below": BELOW}
    shares = {app: {kind: _share(slo, burn, kind, times) for kind in (ERRORS, SLOW)} for app, times in apps.items()}
    checks = []
    for scope, kind in EVERY:
        expected = [
            (each.long, _labels(scope, app), f"{100 * share[kind]:.4g}%")
            for app, share in shares.items()
            for each in _possible(slo, kind)
            if each.factor(slo) * budget_of(slo, kind) < share[kind] and WAITS_MINUTES[each.wait] < minute
        ]
        checks.append(fires(slo, name_of(scope, kind), minute, *expected))
    inputs: dict[str, str] = {}
    for app, share in shares.items():
        inputs |= _traffic(slo, (share[ERRORS], share[SLOW], minute), app=app)
    name = f"a budget that burns a little more, and a little less, than {burn.factor(slo):g} times as fast as it may"
    return case(name, inputs, alert_checks=checks)


def _recovered(slo: Slo) -> dict[str, Any]:
    """Half an hour of errors, then none: each alert ends with its short window."""
    share = min(1.0, 50 * budget_of(slo, ERRORS))
    # Of the records, one in five minutes, six are bad.
    left = {30: ("1h", "6h"), 75: ("1d",), 200: ("3d",), 400: ()}
    checks = []
    for minute, windows in left.items():
        value = f"{100 * share * 6 / (minute / 5):.4g}%"
        checks.append(fires(slo, name_of(APP, ERRORS), minute, *((w, _labels(APP, "shop"), value) for w in windows)))
    return case("errors that have ended", _traffic(slo, (share, 0, 30), (0, 0, 370)), alert_checks=checks)


def _few(slo: Slo, *, every_minutes: int, told: dict[int, tuple[str, ...]]) -> dict[str, Any]:
    """Every request goes wrong, and there are few: nobody is told before the tenth, be it one after hours."""
    labels = {**LABELS, "error_type": "ValueError"}
    last = max(told)
    counted = " ".join(f"{number}x{every_minutes - 1}" for number in range(last // every_minutes + 1))
    inputs = {
        series(f"{DURATION}_count", labels): counted,
        series(f"{DURATION}_bucket", {**labels, "le": f"{slo.latency_threshold_seconds}"}): f"0x{last}",
    }
    checks = []
    for scope, kind in EVERY:
        possible = [burn.long for burn in _possible(slo, kind)]
        for minute, windows in told.items():
            expected = [(window, _labels(scope, "shop"), "100%") for window in windows if window in possible]
            checks.append(fires(slo, name_of(scope, kind), minute, *expected))
    return case(f"one request in {every_minutes} minutes, which goes wrong", inputs, alert_checks=checks)


def _traffic(slo: Slo, *phases: tuple[float, float, int], app: str = "shop") -> dict[str, str]:
    """Return the series of phases: share of errors, share of slow requests, minutes."""
    good = {**LABELS, "flask_app": app, "error_type": "", "http_response_status_code": "200"}
    bad = {**LABELS, "flask_app": app, "error_type": "ValueError", "http_response_status_code": "500"}
    n = REQUESTS_A_MINUTE
    return {
        series(f"{DURATION}_count", good): rising(*((n * (1 - errors), m) for errors, _, m in phases)),
        series(f"{DURATION}_count", bad): rising(*((n * errors, m) for errors, _, m in phases)),
        series(f"{DURATION}_bucket", {**good, "le": f"{slo.latency_threshold_seconds}"}): rising(
            *((n * (1 - slow), m) for _, slow, m in phases)
        ),
    }


def _possible(slo: Slo, kind: str) -> list[Burn]:
    return [burn for burn in BURNS if burn.factor(slo) * budget_of(slo, kind) < 1]


def _share(slo: Slo, burn: Burn, kind: str, times: float) -> float:
    return min(1.0, times * burn.factor(slo) * budget_of(slo, kind))


def _labels(scope: Scope, app: str) -> dict[str, str]:
    return {label: {**LABELS, "flask_app": app}[label] for label in scope.labels}
