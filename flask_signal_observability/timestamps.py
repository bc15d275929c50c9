"""Times of day as every output writes them: ISO 8601 in UTC, always six digits of microseconds."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone

__all__ = ["utc_text"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_latest = (-1, "")
_latest_second = ("", "")
# Each is replaced as a whole, so that threads never see half of one.


def utc_text(unix_ns: int) -> str:
    """Return Unix nanoseconds as ``2026-11-22T10:09:00.123456``, cut to microseconds; the caller names the zone.

    The latest moment is kept, since the outputs of one request ask for the same one. In digits: a float of today's
    seconds is off by up to 120 ns, and so now and then by a microsecond.
    """
    global _latest, _latest_second  # noqa: PLW0603 - two calls of functools' caches cost more than all else here
    moment, text = _latest
    if moment != unix_ns:
        digits = f"{unix_ns:010d}"
        second, told = _latest_second
        if second != digits[:-9]:
            second = digits[:-9]
            told = (EPOCH + timedelta(seconds=int(second))).strftime("%Y-%m-%dT%H:%M:%S")
            _latest_second = second, told
        text = f"{told}.{digits[-9:-3]}"
        _latest = unix_ns, text
    return text
