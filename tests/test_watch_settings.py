from __future__ import annotations

import re
from typing import Any

import blinker
import pytest
from flask import current_app
from flask import Flask
from prometheus_client import CollectorRegistry
from prometheus_client import Counter

from flask_signal_observability import ConfigurationError
from flask_signal_observability import event_bus
from flask_signal_observability import Observability

SIGNAL = blinker.Namespace().signal("order-paid")
NAMELESS = blinker.Signal()


@pytest.fixture
def observability() -> Observability:
    return Observability(registry=CollectorRegistry(), logs=False, tracing=False, audit=False)


@pytest.mark.parametrize(
    ("keyword", "remedy"),
    [("counter", "did you mean count?"), ("label", "did you mean labels?"), ("xyz", "it takes sender,")],
)
@pytest.mark.parametrize("method", ["watch", "watch_namespace"])
def test_an_unknown_keyword_is_a_configuration_error(
    observability: Observability, method: str, keyword: str, remedy: str
) -> None:
    watched: Any = SIGNAL if method == "watch" else blinker.Namespace()
    with pytest.raises(ConfigurationError, match=re.escape(remedy)) as raised:
        getattr(observability, method)(watched, count="paid_total", **{keyword: 1})
    assert str(raised.value).startswith(f"{method}(): {keyword!r} is no keyword of {method}(); ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing is to become of the signal"),
        ({"fields": ("amount",)}, "nothing is to become of the signal"),
        ({"span": SIGNAL}, "is another one than that of the end"),
        ({"count": "orders_paid"}, "it ends in _total"),
        ({"count": "order-paid_total"}, "a name that Prometheus takes"),
        ({"count": "1_total"}, "a name that Prometheus takes"),
        ({"count": "jobs:paid_total"}, "a name that Prometheus takes"),
        ({"count": "__paid_total"}, "a name that Prometheus takes"),
        ({"count": "x_count_total"}, "must not end in"),
        ({"count": 1}, "it ends in _total"),
        ({"count": "flask_signals_total"}, "the package has a metric of this name"),
        ({"measure": "http_server_request_duration_seconds", "value": "x"}, "the package has a metric of this name"),
        ({"measure": "order_value", "value": "x"}, "end it in _seconds or _bytes, or give buckets="),
        ({"measure": "order_value_total", "value": "x"}, "must not end in"),
        ({"measure": "order_seconds"}, "say with value="),
        ({"count": "x_total", "value": "x"}, "there is nothing to measure"),
        ({"count": "x_total", "buckets": (1,)}, "there is nothing to measure"),
        ({"measure": "order_seconds", "value": lambda: 1}, "takes 2 arguments"),
        ({"measure": "order_seconds", "value": "order id"}, "names no field"),
        ({"measure": "order_euros", "value": "x", "buckets": (2, 1)}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": (1, 1)}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": ()}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": (0, 1)}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": 3}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": (float("nan"),)}, "give rising numbers above 0"),
        ({"measure": "order_euros", "value": "x", "buckets": (1e-9, 1)}, "too near to each other"),
        ({"measure": "order_euros", "value": "x", "buckets": (1, 1e12)}, "too near to each other"),
        ({"count": "x_total", "labels": ("currency",)}, "give a mapping of payload fields"),
        ({"count": "x_total", "labels": {"currency": ()}}, "at least one allowed value"),
        ({"count": "x_total", "labels": {"currency": (1,)}}, "allowed values"),
        ({"count": "x_total", "labels": {"flask_app": ("a",)}}, "is taken"),
        ({"count": "x_total", "labels": {"signal": ("a",)}}, "signal"),
        ({"count": "x_total", "labels": {"a.b": ("a",), "a_b": ("b",)}}, "two labels of one name"),
        ({"count": "x_total", "labels": {"order id": ("a",)}}, "names no field"),
        ({"log": "info", "labels": {"a": ("a",)}}, "there is no count= or measure="),
        ({"log": "loud"}, "'DEBUG', 'INFO'"),
        ({"log": "info", "when": 1}, "takes 2 arguments"),
        ({"log": "info", "fields": ("_private",)}, "names no field"),
        ({"log": "info", "fields": ("order.__class__",)}, "names no field"),
        ({"log": "info", "redact": ("",)}, "names of keys"),
        ({"log": "info", "asynchronous": 1}, "give True or False"),
        ({"log": "info", "name": "exception"}, "a record of the package has this name"),
        ({"log": "info", "name": ""}, "a name that can be printed"),
        ({"log": "info", "sender": current_app}, "a proxy is never the sender"),
        ({"log": "info", "sender": 0}, "Blinker takes 0 and False"),
        ({"span_event": 3}, "a name that can be printed"),
        ({"span": True}, "give the signal that announces the start"),
        ({"span": "order-begun"}, "give True, or the signal"),
        ({"span": True, "measure": "x_bytes", "value": "x"}, "give the signal that announces the start"),
        ({"audit": "{user} paid {amount:d}"}, "without a conversion or a format"),
        ({"audit": "{user!r}"}, "without a conversion or a format"),
        ({"audit": "{user"}, "close each brace"),
        ({"audit": "{}"}, "names no field"),
        ({"audit": "{cart[0]}"}, "names no field"),
        ({"audit": "{user.__class__}"}, "names no field"),
        ({"audit": "{user}{amount}"}, "put a space or a sign before {amount}"),
        ({"audit": "{user}x{amount}"}, "put a space or a sign before {amount}"),
        ({"audit": "paid\n{amount}"}, "in one line"),
        ({"audit": "paid \\ {amount}"}, "in one line"),
        ({"audit": ""}, "give a text"),
        ({"audit": 7}, "give a text with fields"),
        ({"audit": "{user} paid {amount}", "fields": ("currency",)}, "does not let out amount"),
    ],
)
def test_what_can_be_known_wrong_is_an_error_at_watch(
    observability: Observability, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        observability.watch(SIGNAL, **options)
    assert SIGNAL.receivers == {}


def test_a_signal_is_blinkers(observability: Observability) -> None:
    with pytest.raises(ConfigurationError, match="give a signal of Blinker's"):
        observability.watch("order-paid", log="info")  # type: ignore[arg-type]


def test_a_signal_without_a_name_needs_one(observability: Observability) -> None:
    with pytest.raises(ConfigurationError, match="the signal has none"):
        observability.watch(NAMELESS, log="info")
    observability.watch(NAMELESS, log="info", name="nameless").stop()


def test_a_field_below_one_that_is_let_out_may_be_in_the_template(observability: Observability) -> None:
    observability.watch(SIGNAL, audit="{user} paid {order.id}", fields=("order",)).stop()


@pytest.mark.parametrize("observed_first", [False, True])
@pytest.mark.parametrize(
    "other",
    [{"count": "x_total", "labels": {"b": ("b",)}}, {"measure": "x_seconds", "value": "v", "buckets": (1, 2)}],
    ids=["labels", "buckets"],
)
def test_two_watches_that_disagree_are_an_error(
    observability: Observability, other: dict[str, Any], *, observed_first: bool
) -> None:
    if observed_first:
        observability.init_app(Flask("shop"))
    with observability.watch(SIGNAL, count="x_total", measure="x_seconds", value="v"):
        before = dict(SIGNAL.receivers)
        with pytest.raises(ConfigurationError, match="two watches disagree on x_"):
            observability.watch(SIGNAL, **other)
        assert SIGNAL.receivers == before


def test_two_apps_that_disagree_are_an_error_too() -> None:
    registry = CollectorRegistry()
    apps = Flask("first"), Flask("second")
    first, second = (Observability(app, registry=registry, logs=False, tracing=False, audit=False) for app in apps)
    first.watch(SIGNAL, count="x_total").stop()
    with pytest.raises(ConfigurationError, match="is there already, with other labels"):
        second.watch(SIGNAL, count="x_total", labels={"a": ("a",)})
    assert SIGNAL.receivers == {}


@pytest.mark.parametrize("before", [True, False])
def test_a_metric_that_the_app_has_made_itself_is_an_error(*, before: bool) -> None:
    registry = CollectorRegistry()
    Counter("x", "x", registry=registry)
    observability = Observability(registry=registry, logs=False, tracing=False, audit=False)
    if before:
        with observability.watch(SIGNAL, count="x_total"), pytest.raises(ConfigurationError, match="cannot be made"):
            observability.init_app(Flask("shop"))
    else:
        app = observability.init_app(Flask("shop"))
        with pytest.raises(ConfigurationError, match="cannot be made"):
            observability.watch(SIGNAL, count="x_total")
        assert "http_server" in app.test_client().get("/metrics").text


class TestConfiguration:
    PLACE = f"{__name__}:SIGNAL"

    def make(self, table: Any, **settings: Any) -> Flask:
        app = Flask("shop")
        app.config["OBSERVABILITY_WATCH"] = table
        Observability(app, registry=CollectorRegistry(), logs=False, tracing=False, audit=False, **settings)
        return app

    def test_a_signal_is_watched_by_configuration(self) -> None:
        app = self.make({self.PLACE: {"count": "configured_total", "labels": {"currency": ["EUR"]}}})
        with app.app_context():
            SIGNAL.send("x", currency="EUR")
        line = 'configured_total{currency="EUR",flask_app="shop"} 1.0'
        assert line in app.test_client().get("/metrics").text.splitlines()

    def test_the_environment_has_it_as_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OBSERVABILITY_WATCH", '{"%s": {"count": "configured_total"}}' % self.PLACE)  # noqa: UP031
        app = Flask("shop")
        Observability(app, registry=CollectorRegistry(), logs=False, tracing=False, audit=False)
        with app.app_context():
            SIGNAL.send("x")
        assert 'configured_total{flask_app="shop"} 1.0' in app.test_client().get("/metrics").text.splitlines()

    def test_a_namespace_is_watched_whole(self) -> None:
        app = self.make({"flask_signal_observability:event_bus": {"count": "bus_total"}})
        with app.app_context():
            event_bus.signal("made-later").send("x")
        line = 'bus_total{flask_app="shop",signal="made-later"} 1.0'
        assert line in app.test_client().get("/metrics").text.splitlines()

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ([], "give a mapping"),
            ({"order_paid": {}}, "such as"),
            ({"shop:order_paid": 1}, "such as"),
            ({"no.such.module:x": {"log": "info"}}, "leads nowhere"),
            ({f"{__name__}:nothing": {"log": "info"}}, "leads nowhere"),
            ({f"{__name__}:pytest": {"log": "info"}}, "give a signal of Blinker's"),
            ({f"{__name__}:SIGNAL": {"lgo": "info"}}, "'lgo' is no keyword of watch()"),
            ({f"{__name__}:SIGNAL": {"where": "x"}}, "'where' is no keyword of watch()"),
            ({f"{__name__}:SIGNAL": {"count": "x"}}, "it ends in _total"),
        ],
    )
    def test_what_is_wrong_is_an_error_at_init_app(self, table: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(message)) as raised:
            self.make(table)
        assert "OBSERVABILITY_WATCH" in str(raised.value)

    def test_the_environment_refuses_what_is_no_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OBSERVABILITY_WATCH", "shop:order_paid")
        with pytest.raises(ConfigurationError, match="write it as JSON"):
            Observability(Flask("shop"), registry=CollectorRegistry())
