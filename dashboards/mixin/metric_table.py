"""The README's table of metrics, from the catalogue."""

from __future__ import annotations

import re

from flask_signal_observability.catalogue import METRICS

__all__ = ["replaced", "table"]

BEGIN = "<!-- metrics: written by dashboards/build.py -->\n"
END = "<!-- end of metrics -->\n"

WITH_EXEMPLARS = frozenset({"http_server_request_duration_seconds", "flask_template_render_duration_seconds"})


def table() -> str:
    """Return a row for each metric that the package makes."""
    rows = ["| Metric | Kind and meaning | Labels |", "|---|---|---|"]
    for metric in METRICS.values():
        kind = f"{metric.kind} with exemplars" if metric.name in WITH_EXEMPLARS else metric.kind
        labels = f"`{' '.join(metric.labels)}` " if metric.labels else ""
        rows.append(f"| `{metric.name}` | {kind}. {metric.help} | {labels}|")
    return "\n".join(rows) + "\n"


def replaced(text: str) -> str:
    """Put the table between its markers.

    Raises:
        ValueError: a marker is missing, or there twice.
    """
    found = re.findall(f"{re.escape(BEGIN)}.*?{re.escape(END)}", text, re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"the README is to have {BEGIN.strip()} and {END.strip()} once; it has {len(found)}")
    return text.replace(found[0], f"{BEGIN}\n{table()}\n{END}")
