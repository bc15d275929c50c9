from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import blinker
import pytest

from flask_signal_observability import ConfigurationError
from flask_signal_observability import event_bus
from flask_signal_observability import ObservedNamespace

if TYPE_CHECKING:
    from .conftest import Observed


def counted(observed: Observed) -> dict[str, float]:
    return {sample.labels["signal"]: sample.value for sample in observed.samples("shop_signals_total")}


def test_every_signal_of_a_namespace_is_watched_under_its_name(observed: Observed) -> None:
    namespace = blinker.Namespace()
    paid, low = namespace.signal("order-paid"), namespace.signal("stock-low")
    observed.observability.watch_namespace(namespace, count="shop_signals_total", log="info", audit="{signal} {sku}")
    gc.collect()
    paid.send("x", sku="a")
    low.send("x", sku="b")
    low.send("x", sku="c")
    assert counted(observed) == {"order-paid": 1, "stock-low": 2}
    assert [record["event"] for record in observed.records()] == ["order-paid", "stock-low", "stock-low"]
    assert [line.partition("] ")[2] for line in observed.audit_lines] == ["order-paid a", "stock-low b", "stock-low c"]


def test_signals_that_an_observed_namespace_makes_later_are_watched_too(observed: Observed) -> None:
    namespace = ObservedNamespace()
    observed.observability.watch_namespace(namespace, count="shop_signals_total")
    gc.collect()
    later = namespace.signal("later")
    assert namespace.signal("later") is later
    later.send("x")
    assert counted(observed) == {"later": 1}


def test_a_plain_namespace_does_not_tell_of_later_signals(observed: Observed) -> None:
    namespace = blinker.Namespace()
    observed.observability.watch_namespace(namespace, count="shop_signals_total")
    assert namespace.signal("later").receivers == {}


def test_stop_ends_all_of_it(observed: Observed) -> None:
    namespace = ObservedNamespace()
    paid = namespace.signal("order-paid")
    with observed.observability.watch_namespace(namespace, log="info") as watch:
        assert watch.names == ["order-paid"]
    watch.stop()
    assert paid.receivers == {}
    assert namespace.signal("later").receivers == {}


def test_the_packages_bus_is_such_a_namespace(observed: Observed) -> None:
    with observed.observability.watch_namespace(event_bus, count="shop_signals_total"):
        event_bus.signal("user-action").send("x")
    assert counted(observed)["user-action"] == 1


def test_a_new_signal_that_cannot_be_watched_is_told_and_made(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = ObservedNamespace()
    observed.observability.watch_namespace(namespace, log="info")
    assert namespace.signal("exception").receivers == {}
    assert "'exception' is not watched" in caplog.text


def test_what_is_wrong_is_an_error_even_while_the_namespace_is_empty(observed: Observed) -> None:
    with pytest.raises(ConfigurationError, match="nothing is to become"):
        observed.observability.watch_namespace(ObservedNamespace())
    with pytest.raises(ConfigurationError, match="no namespace of Blinker's"):
        observed.observability.watch_namespace({}, log="info")  # type: ignore[arg-type]


def test_a_namespace_one_of_whose_signals_cannot_be_watched_is_left_alone(observed: Observed) -> None:
    namespace = ObservedNamespace()
    fine = namespace.signal("fine")
    namespace.signal("exception")
    with pytest.raises(ConfigurationError, match="has this name"):
        observed.observability.watch_namespace(namespace, log="info")
    assert fine.receivers == {}
