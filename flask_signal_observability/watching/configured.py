"""Watches as a setting: ``{"shop.signals:order_paid": {"count": "orders_paid_total"}}``."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError
from ..settings import Kind

__all__ = ["WatchTable", "signal_at"]

PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
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
            if not isinstance(place, str) or not PLACE.fullmatch(place) or not isinstance(options, Mapping):
                raise ValueError(f"{REMEDY}, such as {{'shop.signals:order_paid': {{'log': 'info'}}}}")
            table[place] = MappingProxyType(dict(options))
        return MappingProxyType(table)

    def from_text(self, text: str) -> Mapping[str, Mapping[str, Any]]:
        """Read JSON."""
        try:
            return self.check(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(f"write it as JSON ({error}): {REMEDY}") from None


def signal_at(place: str) -> Any:
    """Return what is at ``module:name``.

    Raises:
        ConfigurationError: Nothing is.
    """
    module, _, names = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"OBSERVABILITY_WATCH={place!r} leads nowhere ({error}): name the module and, after the colon, its signal"
        ) from error
    return found
