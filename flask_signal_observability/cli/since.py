"""A time on the command line."""

from __future__ import annotations

import time
from datetime import datetime
from datetime import timezone
from typing import Any

import click

__all__ = ["Since"]


class Since(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A time (ISO 8601, in UTC where it names no zone) or an age such as 90s, 15m, 2h, 7d."""

    name = "time"
    SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        if isinstance(value, datetime):
            return value
        if value[:-1].isdecimal() and value[-1:] in self.SECONDS and len(value) < 10:  # noqa: PLR2004
            at_seconds = time.time() - int(value[:-1]) * self.SECONDS[value[-1]]
            return datetime.fromtimestamp(max(at_seconds, 0), timezone.utc)
        try:
            read = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            self.fail(
                f"{value!r} is neither an age (90s, 15m, 2h, 7d) nor a time such as 2026-11-22T10:00.", param, ctx
            )
        return read if read.tzinfo else read.replace(tzinfo=timezone.utc)
