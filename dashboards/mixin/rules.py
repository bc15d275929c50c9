"""The contents of Prometheus' rule files."""

from __future__ import annotations

import re
from typing import Any
from typing import TYPE_CHECKING

from . import burn
from . import losses
from . import recorded
from . import symptoms

if TYPE_CHECKING:
    from .alert import Alert
    from .recorded import Rule
    from .slo import Slo

__all__ = ["alerts", "recording"]

INTERVAL = "30s"
LONG_INTERVAL = "3m"
"""Of windows of a day or more. Queries look back five minutes: of records every five they would miss one at times."""


def recording(slo: Slo) -> dict[str, Any]:
    """Return the recording rules: ``recording.yaml``."""
    groups = {"apps": recorded.of_apps(slo), "routes": recorded.of_routes(slo)}
    long = {"apps-long": recorded.of_apps_long(slo), "routes-long": recorded.of_routes_long()}
    return {"groups": [*_groups(slo, groups, INTERVAL), *_groups(slo, long, LONG_INTERVAL)]}


def alerts(slo: Slo) -> dict[str, Any]:
    """Return the alerts: ``alerts.yaml``. Those on requests read what the recording rules write."""
    budgets = burn.budget_alerts(slo)
    groups: dict[str, list[Alert]] = {
        "budgets": [alert for alert in budgets if not recorded.is_long(alert.labels["window"])],
        "requests": symptoms.request_alerts(slo),
        "processes": symptoms.process_alerts(),
        "audit": losses.audit_alerts(),
        "telemetry": losses.telemetry_alerts(),
    }
    short = _groups(slo, _as_rules(slo, groups), INTERVAL)
    long = {"budgets-long": [alert for alert in budgets if recorded.is_long(alert.labels["window"])]}
    return {"groups": [*short, *_groups(slo, _as_rules(slo, long), LONG_INTERVAL)]}


def _as_rules(slo: Slo, groups: dict[str, list[Alert]]) -> dict[str, list[Rule]]:
    return {name: [alert.rule(slo) for alert in each] for name, each in groups.items()}


def _groups(slo: Slo, groups: dict[str, list[Rule]], interval: str) -> list[dict[str, Any]]:
    return [
        {
            "name": f"flask-signal-observability-{name}",
            "interval": interval,
            "rules": [{**rule, "expr": _told_apart(slo, rule["expr"])} for rule in rules],
        }
        for name, rules in groups.items()
    ]


def _told_apart(slo: Slo, expression: str) -> str:
    """Group and join by the labels above ``job``, too; where a rule does neither, they stay as they are."""
    more = "".join(f"{label}, " for label in slo.group_labels)
    return re.sub(r"\b(by|on) \(", rf"\1 ({more}", expression)
