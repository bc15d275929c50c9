"""Log records under the names of the Elastic Common Schema: https://www.elastic.co/docs/reference/ecs.

Names with dots, as Elasticsearch takes them for objects.
"""

from __future__ import annotations

from math import isfinite
from typing import Any
from typing import TYPE_CHECKING

from .tracebacks import traceback_text

if TYPE_CHECKING:
    from collections.abc import Callable

    EventDict = dict[str, Any]

__all__ = ["ECS_NAMES", "ECS_VERSION", "from_ecs", "in_ecs"]

ECS_VERSION = "8.11.0"

ECS_NAMES = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "event": "message",
    "service": "service.name",
    "logger": "log.logger",
    "request_id": "http.request.id",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "client.address": "client.ip",
    "network.peer.address": "source.ip",
    "http.request.body.size": "http.request.body.bytes",
    "http.response.body.size": "http.response.body.bytes",
    "duration_seconds": "event.duration",
    "exception.type": "error.type",
    "exception.message": "error.message",
    "exception": "error.stack_trace",
}
"""Our name to theirs; a key that is not here keeps its name, which for the HTTP conventions is mostly theirs, too."""


def in_ecs(event_dict: EventDict) -> EventDict:
    """Return the record under the schema's names and in its units.

    Two keys that come to the same name leave the first one's value: what is added to a record stands behind its own.
    """
    renamed: EventDict = {}
    for key, value in event_dict.items():
        convert = CONVERSIONS.get(key)
        renamed.setdefault(ECS_NAMES.get(key, key), value if convert is None else convert(value))
    if "span_id" in event_dict and "logger" not in event_dict:
        # Elastic's word for the server span, which our own records always name.
        renamed["transaction.id"] = event_dict["span_id"]
    renamed["ecs.version"] = ECS_VERSION
    return renamed


OUR_NAMES = {theirs: ours for ours, theirs in ECS_NAMES.items()}


def from_ecs(event_dict: EventDict) -> EventDict:
    """Return a record that :func:`in_ecs` made under our names and in our units; the traceback stays text."""
    renamed = {
        OUR_NAMES.get(key, key): value
        for key, value in event_dict.items()
        if key not in ("ecs.version", "transaction.id")
    }
    if isinstance(renamed.get("duration_seconds"), int):
        renamed["duration_seconds"] /= 1e9
    return renamed


def _nanoseconds(seconds: Any) -> Any:
    return round(seconds * 1e9) if isinstance(seconds, float) and isfinite(seconds) else seconds


def _stack_trace(exception: Any) -> Any:
    try:
        return traceback_text(exception)
    except (AttributeError, KeyError, TypeError, ValueError):  # a field of the user's own
        return exception


CONVERSIONS: dict[str, Callable[[Any], Any]] = {"duration_seconds": _nanoseconds, "exception": _stack_trace}
