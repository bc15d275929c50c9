"""What a mode of the benchmark found, as Markdown or JSON: it reads well on a terminal and in the cost guide."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any
from typing import NamedTuple

__all__ = ["Column", "Report", "as_json", "as_markdown"]

PACKAGES = (
    "flask",
    "flask-signal-observability",
    "opentelemetry-sdk",
    "prometheus-client",
    "structlog",
    "opentelemetry-instrumentation-flask",
    "prometheus-flask-exporter",
)


class Column(NamedTuple):
    """A key of the rows, its heading, and how its values are written."""

    key: str
    heading: str
    format: str = ""


class Report(NamedTuple):
    """A table: what was measured, in which unit, row by row, and what the words in it mean."""

    title: str
    unit: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Any]]
    notes: list[str]


def as_markdown(report: Report) -> str:
    """Return the table, its columns aligned, and its notes."""
    cells = [[column.heading for column in report.columns]]
    cells += [[cell(row.get(column.key), column.format) for column in report.columns] for row in report.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = [not column.format for column in report.columns]
    lines = [line(row, widths, left) for row in cells]
    lines.insert(
        1,
        "|" + "|".join(f" {'-' * w} " if a else f" {'-' * (w - 1)}: " for w, a in zip(widths, left, strict=True)) + "|",
    )
    notes = "\n".join(f"* {note}" for note in [*report.notes, versions()])
    return f"{report.title}\n\n" + "\n".join(lines) + f"\n\n{notes}\n"


def cell(value: object, form: str) -> str:
    return "" if value is None else format(value, form)


def line(cells: list[str], widths: list[int], left: list[bool]) -> str:
    padded = (c.ljust(w) if a else c.rjust(w) for c, w, a in zip(cells, widths, left, strict=True))
    return f"| {' | '.join(padded)} |"


def as_json(report: Report) -> str:
    """Return everything that the table says, its numbers unrounded."""
    told = {"title": report.title, "unit": report.unit, "rows": report.rows, "notes": report.notes}
    return json.dumps({**told, "versions": versions()}, indent=1)


def versions() -> str:
    """Return what the figures hold for."""
    installed = {found.name.lower().replace("_", "-"): found.version for found in metadata.distributions()}
    told = [f"{name} {installed[name]}" for name in PACKAGES if name in installed]
    return ", ".join([f"{platform.python_implementation()} {platform.python_version()}", *told])
