"""Times of day as every output writes them: ISO 8601 in UTC, always six digits of microseconds."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone

__all__ = ["SECOND_NS", "THOUSAND", "utc_second", "utc_text"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

SECOND_NS = 1_000_000_000

THOUSAND = tuple(f"{number:03d}" for number in range(1000))
"""Each number below a thousand in three digits: looked up in a sixth of the time that formatting takes."""

_last = (0, "1970-01-01T00:00:00.000000")
"""The last moment and its text, replaced as a whole: whichever thread's it is, the two belong together."""
_last_second = (0, "1970-01-01T00:00:00.")


def utc_text(unix_ns: int) -> str:
    """Return Unix nanoseconds as ``2026-11-22T10:09:00.123456``, cut to microseconds; the caller names the zone.

    The last answer is kept, since the outputs of one request ask for the same moment, and so is its second. In
    integers: a float of today's seconds is off by up to 120 ns, and so now and then by a microsecond.
    """
    global _last, _last_second  # noqa: PLW0603
    last_ns, text = _last
    if last_ns == unix_ns:
        return text
    second_ns, second = _last_second
    rest_ns = unix_ns - second_ns
    if not 0 <= rest_ns < SECOND_NS:
        second_ns, second = _last_second = utc_second(unix_ns)
        rest_ns = unix_ns - second_ns
    rest_us = rest_ns // 1000
    text = f"{second}{THOUSAND[rest_us // 1000]}{THOUSAND[rest_us % 1000]}"
    _last = unix_ns, text
    return text


def utc_second(unix_ns: int) -> tuple[int, str]:
    """Return when the second of these Unix nanoseconds began, and it as ``2026-11-22T10:09:00.``, dot and all."""
    seconds = unix_ns // SECOND_NS
    return seconds * SECOND_NS, (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.")
