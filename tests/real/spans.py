"""A span as the other side of the wire sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Span"]


@dataclass(frozen=True)
class Span:
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str
    """16 hex digits, or empty for a root."""
    name: str
    kind: str
    """``SERVER``, ``INTERNAL``, …"""
    status: str
    """``UNSET``, ``OK`` or ``ERROR``."""
    started_unix_ns: int
    ended_unix_ns: int
    attributes: dict[str, Any]
    events: tuple[str, ...]
    """Their names, in order."""
    resource: dict[str, Any]

    @property
    def duration_seconds(self) -> float:
        return (self.ended_unix_ns - self.started_unix_ns) / 1e9
