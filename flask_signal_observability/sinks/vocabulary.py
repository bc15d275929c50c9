"""The values that a label may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..catalogue import OTHER
from ..text import cut
from ..text import utf8

if TYPE_CHECKING:
    from ..metrics_store.family import Family

__all__ = ["Vocabulary"]

MAX_LABEL_CHARACTERS = 256
"""Longer values are cut: a label is sent with every sample of every scrape."""


class Vocabulary:
    """The values that one label may take in one app: the first ``limit`` that come, and ``_OTHER`` from then on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: set[str] = {""}

    def admit(self, value: str, family: Family) -> str:
        """Return the value, or ``_OTHER`` where there is no more room; the empty value always has room."""
        value = cut(utf8(value), MAX_LABEL_CHARACTERS)
        if value in self._values:
            return value
        if len(self._values) <= self._limit:
            self._values.add(value)
            return value
        family.overflowed()
        return OTHER
