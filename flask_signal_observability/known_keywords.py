"""Which keywords ``watch`` and ``watch_namespace`` take: one that they do not know is told as a setting is."""

from __future__ import annotations

from functools import wraps
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from types import CodeType

    Call = TypeVar("Call", bound=Callable[..., Any])

__all__ = ["check_keywords", "checked"]


def check_keywords(where: str, keywords: Iterable[str], function: Callable[..., Any]) -> None:
    """Check that a function takes these keywords.

    Raises:
        ConfigurationError: One of them is unknown.
    """
    import inspect  # noqa: PLC0415 - of no use to an app that starts
    from difflib import get_close_matches  # noqa: PLC0415

    known = [name for name, each in inspect.signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for key in keywords:
        if key not in known:
            near = get_close_matches(key, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise ConfigurationError(f"{where}: {key!r} is no keyword of {function.__name__}(); {remedy}")


def checked(function: Call) -> Call:
    """Return a method that refuses an unknown keyword with a ``ConfigurationError``; Python has a ``TypeError``."""
    code: CodeType = function.__code__
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if not known.issuperset(keywords):
            check_keywords(f"{function.__name__}()", keywords.keys() - known, function)
        return function(*args, **keywords)

    return call  # type: ignore[return-value]
