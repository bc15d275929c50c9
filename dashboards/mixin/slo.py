"""The promise that dashboards, rules and alerts are measured against."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from typing import TYPE_CHECKING

import yaml

from flask_signal_observability.catalogue import DURATION_BUCKETS_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Slo", "SloError", "budget"]


class SloError(ValueError):
    """The file of objectives says something impossible."""


@dataclasses.dataclass(frozen=True)
class Slo:
    """Objectives of one app, kept over ``window_days``.

    An objective is a share between 0 and 1, both excluded. Every duration is a bucket bound of
    ``http_server_request_duration_seconds``: requests below any other bound cannot be counted.

    ``threads_per_worker`` is how many requests one process serves at a time, 1 or more. ``group_labels`` are labels of
    targets, such as ``cluster``, that tell apps apart beside ``job``: rules group by them, too.
    """

    window_days: int = 30
    availability_objective: float = 0.999
    latency_objective: float = 0.99
    latency_threshold_seconds: float = 0.5
    apdex_satisfied_seconds: float = 0.25
    apdex_tolerated_seconds: float = 1.0
    threads_per_worker: int = 1
    group_labels: tuple[str, ...] = ()
    dashboard_base_url: str = ""
    runbook_base_url: str = "dashboards/RUNBOOK.md"

    def __post_init__(self) -> None:
        """Refuse what no rule could be written for.

        Raises:
            SloError: with the key, the value and what it may be.
        """
        for name in ("window_days", "threads_per_worker"):
            if getattr(self, name) < 1:
                raise SloError(f"{name} is {getattr(self, name)!r}: give 1 or more")
        for name in ("availability_objective", "latency_objective"):
            if not 0 < getattr(self, name) < 1:
                raise SloError(f"{name} is {getattr(self, name)!r}: give a share between 0 and 1, such as 0.999")
        for name in ("latency_threshold_seconds", "apdex_satisfied_seconds", "apdex_tolerated_seconds"):
            if getattr(self, name) not in DURATION_BUCKETS_SECONDS:
                raise SloError(f"{name} is {getattr(self, name)!r}: give one of {DURATION_BUCKETS_SECONDS}")
        if self.apdex_satisfied_seconds >= self.apdex_tolerated_seconds:
            raise SloError("apdex_satisfied_seconds is to be below apdex_tolerated_seconds")
        self._check_group_labels()

    def _check_group_labels(self) -> None:
        if not isinstance(self.group_labels, tuple):
            raise SloError(f"group_labels is {self.group_labels!r}: give a list, such as [cluster, namespace]")
        for label in self.group_labels:
            if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label):
                raise SloError(f"group_labels has {label!r}: give names of labels, such as cluster")

    @classmethod
    def load(cls, path: Path) -> Slo:
        """Read a YAML mapping of these fields; one that is missing keeps its default.

        Raises:
            SloError: an unknown field, or a value that is impossible.
        """
        fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(fields) - set(known)):
            raise SloError(f"{path.name} has {unknown}: known are {known}")
        if isinstance(fields.get("group_labels"), list):
            fields["group_labels"] = tuple(fields["group_labels"])
        return cls(**fields)


def budget(objective: float) -> float:
    """Return the share that may miss an objective, without the dust of binary fractions."""
    return round(1 - objective, 9)
