"""The parts of a test file for ``promtool test rules``."""

from __future__ import annotations

import re
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from .rules import alerts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .slo import Slo

__all__ = ["Firing", "case", "fires", "rising", "series"]

Firing = dict[str, Any]


def case(
    name: str,
    inputs: Mapping[str, str],
    *,
    alert_checks: list[dict[str, Any]] | None = None,
    value_checks: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return one test: series by selector with a value each minute, and what is to come of them."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": selector, "values": values} for selector, values in inputs.items()],
        **({"alert_rule_test": alert_checks} if alert_checks else {}),
        **({"promql_expr_test": value_checks} if value_checks else {}),
    }


def series(name: str, labels: Mapping[str, str]) -> str:
    """Name a series."""
    matchers = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{matchers}}}"


def rising(*phases: tuple[float, int], start: float = 0.0) -> str:
    """Return a counter's values: each phase is what it rises in a minute, and for how many minutes."""
    parts = [f"{start:g}"]
    for each_minute, minutes in phases:
        # A phase starts with the first rise, so that two of them meet at no value twice.
        first = start + each_minute
        parts.append(f"{first!r}+{each_minute!r}x{minutes - 1}")
        start += each_minute * minutes
    return " ".join(parts)


def fires(slo: Slo, alert: str, minute: int, *firing: tuple[str, Mapping[str, str], str]) -> dict[str, Any]:
    """Expect exactly these alerts of one name: for each its ``window`` (or ""), labels, value as told."""
    expected = [_firing(_rule(slo, alert, window), labels, value) for window, labels, value in firing]
    return {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": expected}


def _rule(slo: Slo, alert: str, window: str) -> dict[str, Any]:
    rules = [rule for group in alerts(slo)["groups"] for rule in group["rules"]]
    (rule,) = (r for r in rules if r["alert"] == alert and r["labels"].get("window", "") == window)
    return rule


def _firing(rule: dict[str, Any], labels: Mapping[str, str], value: str) -> Firing:
    annotations = {name: _filled_in(text, labels, value) for name, text in rule["annotations"].items()}
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}


def _filled_in(template: str, labels: Mapping[str, str], value: str) -> str:
    """Fill in what the alerts' templates know: labels, quoted for an address or not, and the value."""

    def fill(placeholder: re.Match[str]) -> str:
        label, quoted = placeholder["label"], placeholder["function"] == "urlquery"
        if label is None:
            return value
        return quote_plus(labels.get(label, "")) if quoted else labels.get(label, "")

    template = re.sub(
        r"{{ with \$labels\.(\w+) }}(.*?){{ \. }}(.*?){{ end }}",
        lambda found: f"{found[2]}{labels[found[1]]}{found[3]}" if labels.get(found[1]) else "",
        template,
    )
    return re.sub(r"{{ \$(?:value|labels\.(?P<label>\w+))(?: \| (?P<function>[^}]+))? }}", fill, template)
