from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore
from flask_signal_observability.metrics_store.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

SERIES = 10_000
ONE_HOUR = 3600.0


@pytest.fixture
def turns() -> Iterator[list[float]]:
    """Grows by one whenever another thread had its turn; nobody is made to hand over."""
    taken: list[float] = []
    over = threading.Event()

    def take() -> None:
        while not over.is_set():
            taken.append(time.monotonic())
            time.sleep(0.0001)

    before_seconds = sys.getswitchinterval()
    sys.setswitchinterval(ONE_HOUR)
    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        sys.setswitchinterval(before_seconds)
        thread.join()


@pytest.mark.parametrize("buckets", [(0.1, 1.0), ()])
def test_another_thread_goes_on_while_many_series_are_read_and_written(
    buckets: tuple[float, ...], turns: list[float]
) -> None:
    store = MetricsStore()
    family = Family(Metric("things", "histogram" if buckets else "gauge", "Things.", ("a",), buckets=buckets), store)
    for number in range(SERIES):
        family.child(str(number))
    before = len(turns)
    (text,) = store.texts()
    assert text.write(store.read(exemplars=True), openmetrics=True).count(b"\n") >= SERIES
    assert len(turns) > before


def test_the_items_come_as_they_are() -> None:
    assert list(in_turns(range(3))) == [0, 1, 2]
    assert list(in_turns([])) == []
