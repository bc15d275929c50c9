"""A copy of a log record that orjson takes, whatever the record holds."""

from __future__ import annotations

from datetime import date
from datetime import time
from typing import Any
from typing import TYPE_CHECKING

import orjson

from .redaction import mask_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    EventDict = dict[str, Any]

__all__ = ["MAX_FIELD_BYTES", "OPTIONS", "SafeCopy", "pass_on", "plain"]

MAX_FIELD_BYTES = 8 * 1024
MAX_RECORD_BYTES = 256 * 1024
"""Room for 32 fields of full length; what comes after it is left out."""

MAX_DEPTH = 32
ATTEMPTS = 100
"""How often a dict may change while it is listed, which is rare, before it counts as one that cannot be read."""

INT_BITS = 64
ELLIPSIS = "…"

OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""orjson 3.13 ends the process where a dataclass has an unset slot or a tzinfo raises: ``plain`` takes both."""


class SafeCopy:
    """Makes a copy that orjson takes, whatever the original holds, and cuts it where it is too long.

    Types are asked for with ``type``, and built-in methods called on their class: an object may lie about both.
    """

    def __init__(self) -> None:
        self._room_bytes = MAX_RECORD_BYTES
        self._truncated = False

    def of_record(self, event_dict: EventDict) -> EventDict:
        """Return the copy, which says ``truncated`` if something is missing; once for each object."""
        copy = self._of_dict(event_dict, 0)
        if self._truncated:
            copy["truncated"] = True
        return copy

    def _of(self, value: Any, depth: int) -> Any:
        self._room_bytes -= 1
        kind = type(value)
        if issubclass(kind, str):
            return self._of_text(value)
        if value is None or kind is bool or kind is float or (kind is int and value.bit_length() < INT_BITS):
            return value
        is_dict = issubclass(kind, dict)
        if not is_dict and not issubclass(kind, list) and kind is not tuple:
            return self._of_other(value, depth)
        if depth > MAX_DEPTH:
            self._truncated = True
            return ELLIPSIS
        return self._of_dict(value, depth) if is_dict else self._of_items(value, depth)

    def _of_text(self, text: str) -> str:
        limit = max(min(MAX_FIELD_BYTES, self._room_bytes), 0)
        data = str.encode(str.__getitem__(text, slice(limit + 1)), "utf-8", "backslashreplace")
        if len(data) > limit:
            self._truncated = True
            data = data[: max(limit - len(ELLIPSIS.encode()), 0)].decode(errors="ignore").encode() + ELLIPSIS.encode()
        self._room_bytes -= len(data)
        return data.decode()

    def _of_dict(self, value: EventDict, depth: int) -> EventDict:
        copy: EventDict = {}
        for key, item in self._while_room(iter(self._items_of(value))):
            # Of two keys that look alike the first one stays.
            name = key if issubclass(type(key), str) else _safe_repr(key)
            copy.setdefault(self._of_text(name), self._of(item, depth + 1))
        return copy

    def _items_of(self, value: EventDict) -> list[tuple[Any, Any]]:
        """Return the items in a list, which another thread may still disturb: a collection amid it lets that run."""
        for _ in range(ATTEMPTS):
            try:
                return list(dict.items(value))
            except RuntimeError:
                continue
        self._truncated = True
        return []

    def _of_items(self, value: Any, depth: int) -> list[Any]:
        items = list.__iter__(value) if issubclass(type(value), list) else tuple.__iter__(value)
        return [self._of(item, depth + 1) for item in self._while_room(items)]

    def _of_other(self, value: object, depth: int) -> Any:
        try:
            known = orjson.loads(orjson.dumps(value, plain, OPTIONS))
        except TypeError as error:
            pass_on(error)
            return self._of_text(_safe_repr(value))
        return known if type(known) is int else self._of(known, depth)

    def _while_room(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if self._room_bytes <= 0:
                self._truncated = True
                return
            yield item


def plain(value: object) -> str:
    """Return what stands for ``value`` in JSON, masked as nobody could before: orjson's ``default``."""
    return value.isoformat() if isinstance(value, (date, time)) else mask_repr(repr(value))


class _Shell:
    """Hides a value from orjson, so that it goes to ``default`` whatever it is."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def _repr_in(shell: _Shell) -> str:
    return mask_repr(repr(shell.value)).encode("utf-8", "backslashreplace").decode()


def _safe_repr(value: object) -> str:
    """Return the ``repr`` of ``value``, else the one that every object has: orjson makes what it raises a TypeError."""
    try:
        text: str = orjson.loads(orjson.dumps(_Shell(value), _repr_in))
    except TypeError as error:
        pass_on(error)
        return object.__repr__(value)
    return text


def pass_on(error: TypeError) -> None:
    """Raise again what orjson caught though it was meant for the server: a SystemExit during a ``repr``."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, Exception):
        raise cause
