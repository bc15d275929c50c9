"""Multi-window, multi-burn-rate alerts: how fast the error budget of an objective goes.

The windows and shares are those of Google's SRE workbook, chapter "Alerting on SLOs",
https://sre.google/workbook/alerting-on-slos/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .alert import Alert
from .recorded import APP
from .recorded import ERRORS
from .recorded import ROUTE
from .recorded import SLOW
from .recorded import total_over

if TYPE_CHECKING:
    from .recorded import Scope
    from .slo import Slo

__all__ = ["BURNS", "ENOUGH", "Burn", "budget_alerts", "budget_of", "name_of"]

ENOUGH = 10
"""Requests that must have gone wrong in the long window: on a quiet route, one that fails is a large share."""

TOLD_IN_HOURS_BELOW = 100


@dataclass(frozen=True)
class Burn:
    """One pair of windows. The long one says that it matters, the short one that it still goes on."""

    budget_share: float
    """What is gone of the whole budget after the long window at this rate."""
    long: str
    long_hours: int
    short: str
    wait: str
    severity: str

    def factor(self, slo: Slo) -> float:
        """Return how many times too fast the budget goes: 14.4, 6, 3 and 1 where it is for 30 days."""
        return self.budget_share * slo.window_days * 24 / self.long_hours


BURNS = (
    Burn(0.02, "1h", 1, "5m", "2m", "page"),
    Burn(0.05, "6h", 6, "30m", "15m", "page"),
    Burn(0.10, "1d", 24, "2h", "1h", "ticket"),
    Burn(0.10, "3d", 72, "6h", "3h", "ticket"),
)


def budget_alerts(slo: Slo) -> list[Alert]:
    """Return the alerts for both objectives, for apps and for routes.

    Where an objective is so low that a rate cannot be reached even if every request goes wrong, its alert is left out.
    """
    return [
        _alert(slo, scope, kind, burn)
        for scope in (APP, ROUTE)
        for kind in (ERRORS, SLOW)
        for burn in BURNS
        if burn.factor(slo) * budget_of(slo, kind) < 1
    ]


def _alert(slo: Slo, scope: Scope, kind: str, burn: Burn) -> Alert:
    threshold = f"{burn.factor(slo):g} * {budget_of(slo, kind):g}"
    conditions = (
        f"{scope.ratio(kind, burn.long)} > {threshold}",
        f"{scope.ratio(kind, burn.short)} > {threshold}",
        f"{total_over(scope.rate(kind), burn.long)} >= {ENOUGH}",
    )
    return Alert(
        name=name_of(scope, kind),
        expr="\nand ".join(conditions),
        severity=burn.severity,
        wait=burn.wait,
        labels={"window": burn.long},
        summary=f"{_of(scope)} {'fails' if kind == ERRORS else 'is slow'}: its error budget burns"
        f" {burn.factor(slo):g} times as fast as it may.",
        description=_description(slo, scope, kind, burn),
        dashboard="route" if scope is ROUTE else "overview",
        variables=scope.labels,
    )


def _description(slo: Slo, scope: Scope, kind: str, burn: Burn) -> str:
    what = "failed" if kind == ERRORS else f"took longer than {slo.latency_threshold_seconds:g} s"
    promised = slo.availability_objective if kind == ERRORS else slo.latency_objective
    return (
        f"{{{{ $value | humanizePercentage }}}} of the requests to {_of(scope)} (job {{{{ $labels.job }}}}) {what} in"
        f" the last {burn.long}, and it goes on. The promise is {100 * promised:g}% good ones in {slo.window_days}"
        f" days; at this rate that budget is gone in {_lasts(burn.factor(slo), slo)}."
    )


def _lasts(factor: float, slo: Slo) -> str:
    hours = slo.window_days * 24 / factor
    return f"{hours:.0f} hours" if hours < TOLD_IN_HOURS_BELOW else f"{hours / 24:.0f} days"


def _of(scope: Scope) -> str:
    app = "{{ $labels.flask_app }}"
    return f"{{{{ $labels.http_route }}}} of {app}" if scope is ROUTE else app


def name_of(scope: Scope, kind: str) -> str:
    """Return the name of the alerts on one objective."""
    subject = "Availability" if kind == ERRORS else "Latency"
    return f"Flask{'Route' if scope is ROUTE else ''}{subject}BudgetBurn"


def budget_of(slo: Slo, kind: str) -> float:
    """Return the share of requests that may go wrong."""
    objective = slo.availability_objective if kind == ERRORS else slo.latency_objective
    return round(1 - objective, 9)
