"""Records that a pipe or a terminal takes in one piece: longer ones would be torn by those of other processes."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from .record import MAX_FIELD_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["shortened"]

CUT = "…"


def shortened(line: bytes, most_bytes: int, parse: Callable[[str], Any], form: Callable[[Any, int], bytes]) -> bytes:
    """Return a line of at most so many bytes: ``changes`` go first, and then every field is cut alike.

    Args:
        line: As ``form`` wrote it.
        most_bytes: From 1024.
        parse: Reads the line.
        form: Writes what was read, with fields of at most so many characters.
    """
    record = parse(line.decode())
    if getattr(record, "changes", None) is not None:
        record = record._replace(changes=CUT)
    if getattr(record, "claimed_addresses", ()):
        record = record._replace(claimed_addresses=record.claimed_addresses[-1:])
    characters = MAX_FIELD_CHARACTERS
    while len(line) > most_bytes and characters > 1:
        line = form(record, characters)
        characters //= 2
    return line
