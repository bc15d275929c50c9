"""What a check finds."""

from __future__ import annotations

import dataclasses
from enum import Enum

__all__ = ["Finding", "Level", "Report"]


class Level(str, Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and is probably not what is wanted."""
    ERROR = "error"
    """Something that is asked for does not arrive."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    what: str
    remedy: str = ""
    """What to do; empty where nothing is."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Makes the findings of one subject."""

    subject: str

    def ok(self, what: str) -> Finding:
        """Tell what is as it should be."""
        return Finding(Level.OK, self.subject, what)

    def warning(self, what: str, remedy: str) -> Finding:
        """Tell what is probably not wanted."""
        return Finding(Level.WARNING, self.subject, what, remedy)

    def error(self, what: str, remedy: str) -> Finding:
        """Tell what does not work."""
        return Finding(Level.ERROR, self.subject, what, remedy)
