"""What the setting ``watch`` names: signals by where they are, and the keywords of their watch."""

from __future__ import annotations

import importlib
import inspect
from typing import Any
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_keywords", "signal_at"]


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


def check_keywords(place: str, options: Mapping[str, Any], function: Any) -> None:
    """Check that a function takes these keywords.

    Raises:
        ConfigurationError: One of them is unknown.
    """
    known = [name for name, each in inspect.signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise ConfigurationError(
                f"OBSERVABILITY_WATCH[{place!r}]: {key!r} is no keyword of {function.__name__}(): "
                f"it takes {', '.join(known)}"
            )
