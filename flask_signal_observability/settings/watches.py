"""Watches as a setting: ``{"shop.signals:order_paid": {"count": "orders_paid_total"}}``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .kind import Kind

__all__ = ["WatchTable"]

PLACE = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*"
REMEDY = "give a mapping of 'module:signal' to the keywords of watch()"


class WatchTable(Kind[Mapping[str, Mapping[str, Any]]]):
    """Signals by where they are, each with the keywords of ``watch``; in the environment as JSON. Read-only.

    The keywords are looked at when an app is observed: the signals need not be there before.
    """

    def check(self, value: Any) -> Mapping[str, Mapping[str, Any]]:
        """Return it read-only."""
        if not isinstance(value, Mapping):
            raise ValueError(REMEDY)  # noqa: TRY004 - every refusal is a ValueError
        table = {}
        for place, options in value.items():
            if not isinstance(place, str) or not re.fullmatch(PLACE, place) or not isinstance(options, Mapping):
                raise ValueError(f"{REMEDY}, such as {{'shop.signals:order_paid': {{'log': 'info'}}}}")
            table[place] = MappingProxyType(dict(options))
        return MappingProxyType(table)

    def from_text(self, text: str) -> Mapping[str, Mapping[str, Any]]:
        """Read JSON."""
        try:
            return self.check(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"write it as JSON ({error}): {REMEDY}") from None
