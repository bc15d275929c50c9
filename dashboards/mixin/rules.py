"""The contents of Prometheus' rule files."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from . import burn
from . import losses
from . import recorded
from . import symptoms

if TYPE_CHECKING:
    from .alert import Alert
    from .slo import Slo

__all__ = ["alerts", "recording"]

INTERVAL = "30s"


def recording(slo: Slo) -> dict[str, Any]:
    """Return the recording rules: ``recording.yaml``."""
    groups = {"apps": recorded.of_apps(slo), "routes": recorded.of_routes(slo)}
    return {"groups": [_group(name, rules) for name, rules in groups.items()]}


def alerts(slo: Slo) -> dict[str, Any]:
    """Return the alerts: ``alerts.yaml``. Those on requests read what the recording rules write."""
    groups: dict[str, list[Alert]] = {
        "budgets": burn.budget_alerts(slo),
        "requests": symptoms.request_alerts(slo),
        "processes": symptoms.process_alerts(),
        "audit": losses.audit_alerts(),
        "telemetry": losses.telemetry_alerts(),
    }
    return {"groups": [_group(name, [alert.rule(slo) for alert in each]) for name, each in groups.items()]}


def _group(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": f"flask-signal-observability-{name}", "interval": INTERVAL, "rules": rules}
