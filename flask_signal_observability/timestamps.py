"""Times of day as every output writes them: ISO 8601 in UTC, always six digits of microseconds."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone

__all__ = ["SECOND_US", "THOUSAND", "utc_second", "utc_text"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

SECOND_NS, SECOND_US = 1_000_000_000, 1_000_000

THOUSAND = tuple(f"{number:03d}" for number in range(1000))
"""Each number below a thousand in three digits: looked up in a sixth of the time that formatting takes."""

_last_second = (0, "1970-01-01T00:00:00.")
"""When the last second began and its text, replaced as a whole: whichever thread's it is, the two belong together."""


def utc_text(unix_ns: int) -> str:
    """Return Unix nanoseconds as ``2026-11-22T10:09:00.123456``, cut to microseconds; the caller names the zone.

    The last second's text is kept. In integers: a float of today's seconds is off by up to 120 ns, and so now and then
    by a microsecond.
    """
    global _last_second  # noqa: PLW0603
    # Divided first: what follows are numbers of one machine word.
    second_ns, second = _last_second
    rest_us = (unix_ns - second_ns) // 1000
    if not 0 <= rest_us < SECOND_US:
        second_ns, second = _last_second = utc_second(unix_ns)
        rest_us = (unix_ns - second_ns) // 1000
    return f"{second}{THOUSAND[rest_us // 1000]}{THOUSAND[rest_us % 1000]}"


def utc_second(unix_ns: int) -> tuple[int, str]:
    """Return when the second of these Unix nanoseconds began, and it as ``2026-11-22T10:09:00.``, dot and all."""
    seconds = unix_ns // SECOND_NS
    return seconds * SECOND_NS, (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.")
