"""Tests of the recording rules: the value of each record, where some requests fail and some are slow."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .promtool import case
from .promtool import rising
from .promtool import series
from .queries import DURATION
from .recorded import APP
from .recorded import ERRORS
from .recorded import QUANTILES
from .recorded import ROUTE
from .recorded import SLOW
from .recorded import WINDOWS

if TYPE_CHECKING:
    from .recorded import Scope
    from .slo import Slo

__all__ = ["recording_cases"]

LABELS = {"job": "web", "flask_app": "shop", "http_route": "/cart"}
BAD_MINUTES = 60
AFTER_MINUTES = 120
# Of 100 requests a minute: 40 fail at once, 54 are quick, 6 are slower than every bound.
FAILED, QUICK, SLOWER = 40, 54, 6
SHARES = {ERRORS: 0.4, SLOW: 0.06}
# What the windows see, an hour after it ended, of a bad hour: its share of the minutes with a record. The rules are
# evaluated every five minutes, so the last bad record stands for five of 61, and the first one comes after five.
LEFT_AFTER = {"5m": 0, "30m": 0, "1h": 5 / 61, "2h": 60 / 116}


def recording_cases(slo: Slo) -> list[dict[str, Any]]:
    """Return all of them."""
    return [_values(slo), _before_the_first_request()]


def _values(slo: Slo) -> dict[str, Any]:
    checks = []
    for scope in (APP, ROUTE):
        windows = [*WINDOWS, *([f"{slo.window_days}d"] if scope is APP else [])]
        checks += [_is(scope, scope.requests(), BAD_MINUTES, 1.6667)]
        for kind in (ERRORS, SLOW):
            checks += [_is(scope, scope.rate(kind), BAD_MINUTES, SHARES[kind] / 0.6)]
            checks += [_is(scope, scope.rate(kind), AFTER_MINUTES, 0)]
            checks += [_is(scope, scope.ratio(kind, window), BAD_MINUTES, SHARES[kind]) for window in windows]
            checks += [
                _is(scope, scope.ratio(kind, window), AFTER_MINUTES, SHARES[kind] * left)
                for window, left in LEFT_AFTER.items()
            ]
    checks += [*_quantiles(slo), _is(APP, APP.apdex(), BAD_MINUTES, 0.54)]
    checks += [_is(APP, APP.active(), BAD_MINUTES, 7), _is(APP, APP.workers(), BAD_MINUTES, 4)]
    return case("recorded values", _inputs(slo), value_checks=checks)


def _before_the_first_request() -> dict[str, Any]:
    inputs = {series("flask_app_info", {"job": "web", "flask_app": "shop"}): "1x30"}
    return case("an app before its first request", inputs, value_checks=[_is(APP, APP.requests(), 20, 0)])


def _quantiles(slo: Slo) -> list[dict[str, Any]]:
    bounds = _bounds(slo)
    # The median lies in the first bucket, which 94 of 100 requests end in; beyond the last bound nothing is known.
    values = {0.5: bounds[0] * 50 / 94, 0.95: bounds[-1], 0.99: bounds[-1]}
    told = [(APP, q) for q in QUANTILES] + [(ROUTE, 0.99)]
    return [_is(scope, scope.quantile(), BAD_MINUTES, values[q], quantile=f"{q:g}") for scope, q in told]


def _inputs(slo: Slo) -> dict[str, str]:
    good = {**LABELS, "error_type": ""}
    bad = {**LABELS, "error_type": "ValueError"}
    ok_quick, failed = (QUICK, 60), (FAILED, 60)
    inputs = {
        series(f"{DURATION}_count", good): rising((QUICK + SLOWER, 60), (100, 60)),
        series(f"{DURATION}_count", bad): rising(failed, (0, 60)),
        series("http_server_active_requests", {**LABELS, "instance": "a"}): "3x120",
        series("http_server_active_requests", {**LABELS, "instance": "b"}): "4x120",
        # One instance with three processes, and one that does not count itself.
        series("flask_app_info", {"job": "web", "flask_app": "shop", "instance": "a"}): "1x120",
        series("flask_app_info", {"job": "web", "flask_app": "shop", "instance": "b"}): "1x120",
        series("observability_workers", {"job": "web", "instance": "a"}): "3x120",
    }
    for bound in _bounds(slo):
        inputs[series(f"{DURATION}_bucket", {**good, "le": f"{bound}"})] = rising(ok_quick, (100, 60))
        inputs[series(f"{DURATION}_bucket", {**bad, "le": f"{bound}"})] = rising(failed, (0, 60))
    inputs[series(f"{DURATION}_bucket", {**good, "le": "+Inf"})] = rising((QUICK + SLOWER, 60), (100, 60))
    inputs[series(f"{DURATION}_bucket", {**bad, "le": "+Inf"})] = rising(failed, (0, 60))
    return inputs


def _bounds(slo: Slo) -> list[float]:
    return sorted({slo.apdex_satisfied_seconds, slo.latency_threshold_seconds, slo.apdex_tolerated_seconds})


def _is(scope: Scope, record: str, minute: int, value: float, **more: str) -> dict[str, Any]:
    """Expect a value, to four digits."""
    labels = {**{label: LABELS[label] for label in scope.labels}, **more}
    selector = series(record, more) if more else record
    return {
        "expr": f"round({selector} * 10000)",
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": series("", labels), "value": round(value * 10000)}],
    }
