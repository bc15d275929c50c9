"""What ``access_logged.send`` takes, and what it is told where that comes to nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TOLD", "WHERE", "warn_of_unused"]

logger = logging.getLogger("flask_signal_observability")

TOLD = ("action", "object", "outcome", "changes")
"""What of the payload a JSON record tells, redacted as records of the log are."""

WHERE = ("user", "ip", "path")
"""Who and what, for a job that has no request; a request knows that itself."""

NEAR_MISS = 0.8
"""difflib's ratio. Any other name is for receivers of the app's own, and none of our business."""

_told: set[tuple[str, str]] = set()


def warn_of_unused(names: Iterable[str], *, audit_format: str, in_request: bool) -> None:
    """Say of each keyword of a payload, once a process, that it is not in the audit line, and why."""
    for name in names:
        if name in TOLD:
            if audit_format == "text":
                _warn_once(name, "a line of text has no room for it", 'set audit_format="json"')
        elif name in WHERE:
            if in_request:
                _warn_once(name, "in a request it is the request's own", "take it out")
        elif near := _near(name):
            _warn_once(name, "there is no such keyword", f"did you mean {near}?")


def _warn_once(name: str, cause: str, remedy: str) -> None:
    if (name, cause) not in _told:
        _told.add((name, cause))
        logger.warning("access_logged.send(%s=…): not in the audit line: %s; %s", name, cause, remedy)


def _near(name: str) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - of no use where every name is known

    return next(iter(get_close_matches(name, (*TOLD, *WHERE), 1, NEAR_MISS)), None)
