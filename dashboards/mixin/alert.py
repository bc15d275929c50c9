"""One alert, and the rule that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .slo import Slo

__all__ = ["OF_FLASK", "Alert"]

OF_FLASK = "and on (job, instance) last_over_time(flask_app_info[15m])"
"""Every exporter has ``process_*``, every program with traces ``otel_*``: the alerts are on those observed here."""


@dataclass(frozen=True)
class Alert:
    """A condition that a person is to know of; ``severity`` is ``page`` (now) or ``ticket`` (in office hours)."""

    name: str
    expr: str
    severity: str
    wait: str
    """How long the condition must hold, such as ``5m``."""
    summary: str
    description: str
    dashboard: str
    """Which of the five dashboards shows it: the last word of its uid."""
    variables: tuple[str, ...]
    """Labels of the result that choose what the dashboard shows."""
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self, slo: Slo) -> dict[str, Any]:
        """Return the rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "dashboard_url": self._dashboard_url(slo),
                "runbook_url": f"{slo.runbook_base_url}#{self.name.lower()}",
            },
        }

    def _dashboard_url(self, slo: Slo) -> str:
        chosen = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in self.variables)
        return f"{slo.dashboard_base_url}/d/fso-{self.dashboard}?{chosen}"
