"""What the setting ``watch`` names: signals by where they are, and the keywords of their watch."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigurationError

__all__ = ["signal_at"]


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
