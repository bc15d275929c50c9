"""Which requests no sink sees: by path, by endpoint, or by ``@exempt`` on the view."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

__all__ = ["Exclusion", "exempt"]

View = TypeVar("View", bound="Callable[..., Any]")

EXEMPT = "__observability_exempt__"
"""The mark that ``@exempt`` leaves; ``functools.wraps`` copies it to decorators further out."""

ENDPOINT = "endpoint:"


def exempt(view: View) -> View:
    """Mark a view function or a :class:`flask.views.View` class so that no sink sees its requests.

    An error that nobody handles in it still reaches the error journal, and an ``access_logged`` that it sends itself is
    still written.

    Raises:
        TypeError: what is marked is no view.
    """
    if not callable(view):
        raise TypeError(f"@exempt marks a view function or class, not {view!r}")
    setattr(view, EXEMPT, True)
    return view


class Exclusion:
    """``Config.exclude``, compiled: patterns of paths (``/static/*``, as in :mod:`fnmatch`) and ``endpoint:`` names."""

    def __init__(self, exclude: Sequence[str]) -> None:
        patterns = [translate(item) for item in exclude if not item.startswith(ENDPOINT)]
        self.path = re.compile("|".join(patterns)).match if patterns else None
        """Matches SCRIPT_NAME + PATH_INFO; None where no path is excluded, so that no path is built for nothing."""
        self._endpoints = {item.removeprefix(ENDPOINT) for item in exclude if item.startswith(ENDPOINT)}
        self._known: dict[str, tuple[Any, bool]] = {}

    def covers(self, app: Any, endpoint: str) -> bool:
        """Tell whether the endpoint is excluded by name, or its view marked with ``@exempt``."""
        view = app.view_functions.get(endpoint)
        known = self._known.get(endpoint)
        if known is None or known[0] is not view:
            marked = hasattr(view, EXEMPT) or hasattr(getattr(view, "view_class", None), EXEMPT)
            known = self._known[endpoint] = (view, marked or endpoint in self._endpoints)
        return known[1]
