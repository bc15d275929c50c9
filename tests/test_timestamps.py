from __future__ import annotations

from datetime import datetime
from datetime import timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_signal_observability.timestamps import utc_text

YEAR_2262_NS = 2**63 - 1
"""The last moment of a signed 64-bit count of nanoseconds."""


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000"),
        (999, "1970-01-01T00:00:00.000000"),
        (1_000, "1970-01-01T00:00:00.000001"),
        (1_582_934_400_000_000_000, "2020-02-29T00:00:00.000000"),
        (1_795_342_140_123_456_789, "2026-11-22T10:09:00.123456"),
        (1_795_342_140_999_999_999, "2026-11-22T10:09:00.999999"),
        (YEAR_2262_NS, "2262-04-11T23:47:16.854775"),
    ],
)
def test_a_moment_is_iso_8601_cut_to_microseconds(unix_ns: int, text: str) -> None:
    assert utc_text(unix_ns) == text


@given(st.integers(0, YEAR_2262_NS))
def test_the_text_reads_back_as_the_very_microsecond(unix_ns: int) -> None:
    read = datetime.fromisoformat(utc_text(unix_ns)).replace(tzinfo=timezone.utc)
    since = read - datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds == unix_ns // 1000


@given(st.lists(st.integers(0, YEAR_2262_NS), min_size=2, max_size=2))
def test_texts_sort_as_their_moments_do(moments: list[int]) -> None:
    earlier, later = sorted(moments)
    assert utc_text(earlier) <= utc_text(later)
