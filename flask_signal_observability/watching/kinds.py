"""Kinds of keywords that only a watch has."""

from __future__ import annotations

from typing import Any

from ..settings import Kind
from .fields import check_path
from .template import AuditTemplate

__all__ = ["Buckets", "Path", "Template"]


class Path(Kind[str]):
    """The path of a payload's field."""

    def check(self, value: Any) -> str:
        """Return it as it is."""
        return check_path(value)


class Template(Kind[AuditTemplate]):
    """The text of an audit line."""

    def check(self, value: Any) -> AuditTemplate:
        """Return it compiled."""
        if not isinstance(value, str):
            raise ValueError("give a text with fields in braces: '{user}@{ip} paid {amount}'")  # noqa: TRY004
        return AuditTemplate(value)


class Buckets(Kind["tuple[float, ...]"]):
    """Upper bounds of a histogram, rising."""

    def check(self, value: Any) -> tuple[float, ...]:
        """Return them as floats, without the infinite one, which is always there."""
        remedy = "give rising numbers above 0, such as (1, 5, 10)"
        try:
            bounds = tuple(float(bound) for bound in value if bound != float("inf"))
        except (TypeError, ValueError):
            raise ValueError(remedy) from None
        if not bounds or not all(low < high for low, high in zip((0.0, *bounds), bounds)):  # noqa: B905
            raise ValueError(remedy)
        return bounds
