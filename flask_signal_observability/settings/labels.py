"""Labels of metrics, each with the values that it may take."""

# What overrides Kind's methods is told by its class.
# ruff: noqa: D102

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .kind import Kind
from .kind import NOT_IN_ENVIRONMENT
from .values import Matching
from .values import Names

__all__ = ["Labels"]


class Labels(Kind[Mapping[str, tuple[str, ...]]]):
    """Metric labels, each with the values that it may take; read-only.

    Names as in https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels.
    """

    NAME = r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*"
    OURS = ("flask_app", "http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type")
    PROMETHEUS = ("le", "quantile")
    VALUES = Names(Matching(r"[^\ud800-\udfff]+", "give each label its allowed values, none of them empty"))

    def check(self, value: Any) -> Mapping[str, tuple[str, ...]]:
        if not isinstance(value, Mapping):
            raise ValueError("give a mapping of label names to allowed values")  # noqa: TRY004
        return MappingProxyType({self._name(name): self._values(name, values) for name, values in value.items()})

    def from_text(self, text: str) -> Mapping[str, tuple[str, ...]]:
        raise ValueError(NOT_IN_ENVIRONMENT)

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not re.fullmatch(self.NAME, name):
            raise ValueError(f"{self.shown(name)} is no label name; use letters, digits and _, not __ or a digit first")
        if name in self.OURS + self.PROMETHEUS:
            raise ValueError(f"the label {name!r} is taken; choose another name")
        return name

    def _values(self, name: Any, values: Any) -> tuple[str, ...]:
        checked = self.VALUES.check(values)
        if not checked:
            raise ValueError(f"give the label {name!r} at least one allowed value")
        return checked
