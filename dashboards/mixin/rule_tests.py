"""The contents of promtool's test file: each rule on series made for it."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .burn_tests import budget_cases
from .loss_tests import loss_cases
from .recorded_tests import recording_cases
from .rules import alerts
from .rules import recording
from .symptom_tests import symptom_cases

if TYPE_CHECKING:
    from .slo import Slo

__all__ = ["rule_tests"]


def rule_tests(slo: Slo) -> dict[str, Any]:
    """Return ``tests.yaml``: every alert fires on what it is for and on nothing else, every record has a value."""
    groups = [*recording(slo)["groups"], *alerts(slo)["groups"]]
    return {
        "rule_files": ["recording.yaml", "alerts.yaml"],
        # Every minute takes half a minute of CPU; a rule that waits for less than five waits for five here.
        "evaluation_interval": "5m",
        # Else promtool takes them in any order, and an alert may see the records of a minute ago.
        "group_eval_order": [group["name"] for group in groups],
        "tests": [*recording_cases(slo), *budget_cases(slo), *symptom_cases(slo), *loss_cases(slo)],
    }
