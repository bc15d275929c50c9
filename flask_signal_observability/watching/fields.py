"""What is read from a payload, and made plain: nothing of the app's own leaves with an event."""

from __future__ import annotations

import decimal
import enum
import itertools
import re
import uuid
from collections.abc import Mapping
from datetime import date
from datetime import time
from datetime import timedelta
from typing import Any
from typing import TYPE_CHECKING

from ..redaction import MASK
from ..redaction import mask_patterns
from ..redaction import mask_strings
from ..text import cut
from ..text import utf8

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..guard import Guard
    from ..redaction import Redaction

    Payload = dict[str, Any]
    Read = Callable[[Payload], Any]
    Extract = Callable[[Payload], dict[str, Any]]

__all__ = ["MISSING", "check_path", "make_extract", "reader_of", "scalar", "text_of"]

PATH = re.compile(r"(?!_)\w+(\.(?!_)\w+)*", re.ASCII)

MAX_FIELDS = 64
"""Fields of one event; OpenTelemetry's default for the attributes of an event is 128."""

MAX_CHARACTERS = 2048
"""Of one text; as many as a field of the audit file may have."""

MAX_SHAPES = 1024
"""Sets of names that are remembered."""

FEWEST_SUSPECT = 13
"""No shorter word looks like a credential, but for a password in a URL."""

INT_BITS = 63
MIN_INT, MAX_INT = -(2**INT_BITS), 2**INT_BITS - 1
UNPRINTABLE = "<unprintable>"
TEXTUAL = (decimal.Decimal, uuid.UUID, date, time, timedelta)

MISSING: Any = object()
"""Stands for a field that a payload does not have, and for a value that is none of a scalar's kinds."""


def check_path(path: str) -> str:
    """Return the path of a field: names with dots between them, none of them private.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(path, str) or PATH.fullmatch(path) is None:
        raise ValueError(f"{path!r} names no field; write a name of the payload, with dots to look into it: order.id")
    return path


def reader_of(path: str) -> Read:
    """Return what reads a field: ``order.id`` is the item or the attribute ``id`` of what is sent as ``order``."""
    name, *others = path.split(".")
    if not others:
        return lambda payload: payload.get(name, MISSING)

    def read(payload: Payload) -> Any:
        value = payload.get(name, MISSING)
        for part in others:
            value = value.get(part, MISSING) if isinstance(value, Mapping) else getattr(value, part, MISSING)
        return value

    return read


def scalar(value: Any) -> Any:
    """Return a plain copy of a scalar, and ``MISSING`` for anything else.

    Scalars are text, numbers, truth values, None, and members of an enumeration, ``Decimal``, UUID, dates and times.
    """
    kind = type(value)
    if kind is str:
        return _clean(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if value.bit_length() <= INT_BITS else cut(str(value), MAX_CHARACTERS)
    if isinstance(value, enum.Enum):
        return scalar(value.value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return scalar(plain.__add__(value, plain()))  # type: ignore[operator]
    return _clean(str(value)) if isinstance(value, TEXTUAL) else MISSING


def text_of(value: Any) -> str | None:
    """Return the text of anything; None for what is missing or None."""
    if value is MISSING or value is None:
        return None
    if type(value) is str:
        return _clean(value)
    if isinstance(value, (bytes, bytearray)):
        return _clean(bytes(value[: MAX_CHARACTERS + 1]).decode("utf-8", "backslashreplace"))
    plain = scalar(value)
    return _clean(str(value if plain is MISSING else plain))


def _clean(text: str) -> str:
    text = mask_patterns(text if len(text) <= MAX_CHARACTERS else cut(text, MAX_CHARACTERS))
    return text if text.isascii() else utf8(text)


def _anything(value: Any) -> Any:
    """Return what was explicitly let out, made plain as far as any output writes it; containers are masked already."""
    plain = scalar(value)
    if plain is not MISSING:
        return plain
    if isinstance(value, (set, frozenset)):
        value = list(value)
    return mask_strings(value) if isinstance(value, (dict, list, tuple)) else text_of(value)


def make_extract(fields: tuple[str, ...] | None, redaction: Redaction, guard: Guard) -> Extract:
    """Return what takes the fields that may leave the process out of a payload: those named, or all scalars.

    What fails loses itself alone, and is counted.
    """
    return _scalars(redaction, guard) if fields is None else _named(fields, redaction, guard)


def is_word(text: str) -> bool:
    """Tell whether a text is short and of one piece, in which no credential has room."""
    if len(text) >= FEWEST_SUSPECT or not text.isascii():
        return False
    return text.isalnum() or (text.isprintable() and " " not in text and "/" not in text)


def all_plain(payload: Payload) -> bool:
    """Tell whether every value may leave as it is."""
    for value in payload.values():
        kind = type(value)
        if kind is str:
            if not is_word(value) and _clean(value) != value:
                return False
        elif kind is int:
            if not MIN_INT <= value <= MAX_INT:
                return False
        elif kind is not float and kind is not bool:
            return False
    return True


def _scalars(redaction: Redaction, guard: Guard) -> Extract:
    hides = redaction.hides
    are_open: dict[tuple[str, ...], bool] = {}

    def scalars(payload: Payload) -> dict[str, Any]:
        # The hot path of a watched signal: the payload was made for this call, and mostly it is plain as it is.
        keys = tuple(payload)
        is_open = are_open.get(keys)
        if is_open is None:
            is_open = len(keys) <= MAX_FIELDS and not any(map(hides, keys))
            if len(are_open) < MAX_SHAPES:
                are_open[keys] = is_open
        return payload if is_open and all_plain(payload) else cleaned(payload)

    def cleaned(payload: Payload) -> dict[str, Any]:
        found = {}
        for key, value in payload.items():
            plain = MASK if hides(key) else guard.call("watch", "fields", scalar, value, default=UNPRINTABLE)
            if plain is not MISSING:
                found[key] = plain
        return found if len(found) <= MAX_FIELDS else dict(itertools.islice(found.items(), MAX_FIELDS))

    return scalars


def _named(fields: tuple[str, ...], redaction: Redaction, guard: Guard) -> Extract:
    hides = redaction.hides
    readers = [(name, reader_of(name)) for name in fields]

    def plain(name: str, read: Read, payload: Payload) -> Any:
        value = read(payload)
        return value if value is MISSING else _anything(redaction.mask_mapping({name: value})[name])

    def named(payload: Payload) -> dict[str, Any]:
        found = {}
        for name, read in readers:
            value = MASK if hides(name) else guard.call("watch", "fields", plain, name, read, payload, default=MISSING)
            if value is not MISSING:
                found[name] = value
        return found

    return named
