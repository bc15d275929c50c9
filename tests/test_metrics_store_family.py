from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTS = 100
"""The lock was left behind by the first or second of them."""


class Interrupt(Exception):
    """What a signal handler of an app raises, as a timeout."""


def strike(number: int, frame: FrameType | None) -> None:
    raise Interrupt


def is_free(store: MetricsStore) -> bool:
    """Tell whether another thread gets the store's lock."""
    got: list[bool] = []

    def ask() -> None:
        got.append(store.lock.acquire(blocking=False))
        if got[0]:
            store.lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return got[0]


def test_a_family_that_came_after_the_numbers_were_read_has_none_yet() -> None:
    store = MetricsStore()
    reading = store.read(exemplars=True)
    for kind, buckets in (("counter", ()), ("histogram", (0.1,))):
        Family(Metric(f"late_{kind}", kind, "Late.", (), buckets=buckets), store)
    heads = b"".join(text.write(reading, openmetrics=False) for text in store.texts())
    assert heads.count(b"# TYPE late_") == heads.count(b"\n") / 2 == 2


def test_a_signal_handler_that_raises_while_something_is_counted_leaves_no_lock_behind() -> None:
    store = MetricsStore()
    cell = Family(Metric("things", "counter", "Things.", ()), store).child()
    before = signal.signal(signal.SIGALRM, strike)
    try:
        for number in range(INTERRUPTS):
            try:
                signal.setitimer(signal.ITIMER_REAL, 50e-6 + number * 1e-6)
                while True:
                    cell.inc()
            except Interrupt:
                assert is_free(store)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
