"""Times of day as every output writes them: ISO 8601 in UTC, always six digits of microseconds."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from datetime import timezone

__all__ = ["utc_text"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_SECOND_NS = 1_000_000_000

_DIGITS = tuple(f"{number:03}" for number in range(1000))
"""Half the time of writing the number down each time."""

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
    if not 0 <= rest_ns < _SECOND_NS:
        rest_ns = unix_ns % _SECOND_NS
        moment = EPOCH + timedelta(seconds=unix_ns // _SECOND_NS)
        second = moment.strftime("%Y-%m-%dT%H:%M:%S.")
        _last_second = unix_ns - rest_ns, second
    microseconds = rest_ns // 1000
    text = f"{second}{_DIGITS[microseconds // 1000]}{_DIGITS[microseconds % 1000]}"
    _last = unix_ns, text
    return text
