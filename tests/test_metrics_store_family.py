from __future__ import annotations

import subprocess
import sys

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore

INTERRUPTS = 100
"""The lock was left behind by the first or second of them."""

INTERRUPTED = """
import signal
import threading

from flask_signal_observability.catalogue import Metric
from flask_signal_observability.metrics_store.family import Family
from flask_signal_observability.metrics_store.store import MetricsStore
from flask_signal_observability.config import Config
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.sinks.metrics import MetricsSink
from prometheus_client import CollectorRegistry


class Interrupt(BaseException):
    pass


def strike(*_):
    raise Interrupt


def is_free(store):
    got = []

    def ask():
        got.append(store.lock.acquire(blocking=False))
        if got[0]:
            store.lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return got[0]


store = MetricsStore()
cell = Family(Metric("things", "counter", "Things.", ()), store).child()
sink = MetricsSink(Config(), "shop", CollectorRegistry())


def request():
    record = RequestRecord(None, "shop", {"wsgi.url_scheme": "http"}, "GET", 0, 0, lambda record: None)
    record.end(1)
    sink.open(record)
    sink.finish(record)


request()
signal.signal(signal.SIGALRM, strike)
for number in range(%d):
    for count, counted in (cell.inc, store), (request, sink._store):
        try:
            signal.setitimer(signal.ITIMER_REAL, 50e-6 + number * 1e-6)
            while True:
                count()
        except Interrupt:
            assert is_free(counted), number
held, done = threading.Event(), threading.Event()


def hold():
    with store.lock:
        held.set()
        done.wait(10)


thread = threading.Thread(target=hold)
thread.start()
held.wait(10)
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    cell.inc()
except Interrupt:
    assert not is_free(store), "it is the other thread's"
else:
    raise AssertionError("it did not wait")
done.set()
thread.join()
assert is_free(store)
"""
"""In a process of its own: what measures coverage has locks, too, that a handler may strike in."""


def test_a_family_that_came_after_the_numbers_were_read_has_none_yet() -> None:
    store = MetricsStore()
    reading = store.read(exemplars=True)
    for kind, buckets in (("counter", ()), ("histogram", (0.1,))):
        Family(Metric(f"late_{kind}", kind, "Late.", (), buckets=buckets), store)
    heads = b"".join(text.write(reading, openmetrics=False) for text in store.texts())
    assert heads.count(b"# TYPE late_") == heads.count(b"\n") / 2 == 2


def test_a_signal_handler_that_raises_while_something_is_counted_leaves_no_lock_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED % INTERRUPTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
