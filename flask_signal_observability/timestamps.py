"""Times of day as every output writes them: ISO 8601 in UTC, always six digits of microseconds."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone
from functools import lru_cache

__all__ = ["second_text", "utc_text"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@lru_cache(maxsize=64)
def utc_text(unix_ns: int) -> str:
    """Return Unix nanoseconds as ``2026-11-22T10:09:00.123456``, cut to microseconds; the caller names the zone.

    Cached, since the outputs of one request ask for the same moment. In integers: a float of today's seconds is off by
    up to 120 ns, and so now and then by a microsecond.
    """
    seconds, microseconds = divmod(unix_ns // 1000, 1_000_000)
    return f"{second_text(seconds)}.{microseconds:06d}"


@lru_cache(maxsize=16)
def second_text(unix_seconds: int) -> str:
    """Return Unix seconds as ``2026-11-22T10:09:00``."""
    return (EPOCH + timedelta(seconds=unix_seconds)).strftime("%Y-%m-%dT%H:%M:%S")
