"""The releases of what this package builds on: whether they are those it is made for, and fit one another."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .finding import Finding
    from .target import Target

__all__ = ["look"]

report = Report("releases")

OURS = "flask-signal-observability"

BOUND = (OURS, "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-exporter-otlp-proto-grpc")
"""Whose requirements are looked at: OpenTelemetry's packages are bound to one another's exact releases."""

REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?")
BOUNDARY = re.compile(r"(>=|<=|==|<|>|~=|!=)\s*([\d.]+)")


def look(_target: Target) -> Iterator[Finding]:
    """Compare what is installed with what is required."""
    wrong = False
    for package in BOUND:
        for name, bounds in _requirements(package):
            installed = _version(name)
            if installed and not _fits(installed, bounds):
                wrong = True
                yield report.error(
                    f"{name} {installed} is installed, and {package} needs {bounds}", f"pip install '{name}{bounds}'"
                )
    if not wrong:
        shown = ", ".join(f"{name} {_version(name)}" for name in ("flask", "opentelemetry-sdk", "prometheus-client"))
        yield report.ok(f"{OURS} {_version(OURS) or '(not installed)'}, {shown}")


def _requirements(package: str) -> Iterator[tuple[str, str]]:
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        match = REQUIREMENT.match(line)
        if match and match[2].strip() and "extra" not in (match[3] or "") and not match[3]:
            yield match[1], match[2].strip().replace(" ", "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _fits(installed: str, bounds: str) -> bool:
    have = _numbers(installed)
    for operator, text in BOUNDARY.findall(bounds):
        want = _numbers(text)
        compared = (have > want) - (have < want)
        fits = {"<": compared < 0, "<=": compared <= 0, ">": compared > 0, "==": compared == 0, "!=": compared != 0}
        if not fits.get(operator, compared >= 0):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a release, trailing zeros left out; what makes it a pre-release is not compared."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
