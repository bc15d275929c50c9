"""Records chosen and counted, for those who read an audit file on a terminal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any
from typing import TYPE_CHECKING

from .mark import Note
from .mark import split
from .trail import entry_of

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Filter", "Summary"]


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which records are wanted; None lets all through."""

    user: str | None = None
    """A pattern, with ``*`` and ``?``."""
    path: str | None = None
    """A pattern."""
    since: datetime | None = None
    status: str | None = None
    """``404``, or a class: ``5xx``."""

    def lets(self, entry: dict[str, Any] | None) -> bool:
        """Whether a record is wanted; what is no record is wanted where everything is."""
        if entry is None or "lost" in entry:
            return self == Filter()
        if "text" in entry:  # a watched signal's: who, and what, only its template knows
            return self == Filter(since=self.since) and (self.since is None or entry["time"] >= self.since)
        return (
            (self.user is None or fnmatchcase(entry["user"], self.user))
            and (self.path is None or fnmatchcase(entry["path"], self.path))
            and (self.since is None or entry["time"] >= self.since)
            and (self.status is None or fnmatchcase(str(entry.get("status")), self.status.lower().replace("x", "?")))
        )


class Summary:
    """Counts records as they are read."""

    def __init__(self) -> None:
        self.records = self.events = self.gaps = self.lost = self.notes = self.others = 0
        self.first = self.last = ""
        self.users: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.hours: Counter[str] = Counter()

    def add(self, line: bytes, chosen: Filter) -> None:
        """Count a line, where it is wanted or no record."""
        entry = entry_of(line)
        if entry is None and Note.read(split(line)[0]):
            self.notes += 1
        elif entry is None:
            self.others += 1
        elif "lost" in entry:
            self.gaps += 1
            self.lost += entry["lost"]
        elif chosen.lets(entry):
            if "text" in entry:
                self.events += 1
            else:
                self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        time = entry["time"].isoformat()
        self.records += 1
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)
        self.users[entry["user"]] += 1
        self.paths[entry["path"]] += 1
        self.hours[f"{time[:13]}:00"] += 1
        if entry.get("status") is not None:
            self.statuses[str(entry["status"])] += 1

    def told(self, top: int) -> dict[str, Any]:
        """Return it for JSON, so many users and paths of it."""
        return {
            "records": self.records,
            "events": self.events,
            "first": self.first or None,
            "last": self.last or None,
            "gaps": self.gaps,
            "lost": self.lost,
            "chain_notes": self.notes,
            "other_lines": self.others,
            "distinct_users": len(self.users),
            "users": dict(self.users.most_common(top)),
            "paths": dict(self.paths.most_common(top)),
            "statuses": dict(self.statuses.most_common()),
            "hours": dict(sorted(self.hours.items())),
        }
