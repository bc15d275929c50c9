from __future__ import annotations

import asyncio
import contextvars
import copy
import enum
import gc
import os
import threading
import weakref
from decimal import Decimal
from typing import Any
from typing import TYPE_CHECKING
from uuid import UUID

import flask
import pytest
from blinker import ANY
from blinker import Namespace
from blinker import Signal
from flask import Flask
from flask import g
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry

from flask_signal_observability import Observability
from flask_signal_observability import Sink
from flask_signal_observability import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

EUR_USD = ("EUR", "USD")


@pytest.fixture
def paid() -> Signal:
    return Namespace().signal("order-paid")


def visit(observed: Observed, view: Callable[[], object], path: str = "/pay") -> None:
    def answer() -> str:
        view()
        return "done"

    observed.app.add_url_rule(path, view_func=answer)
    assert observed.client().get(path).status_code == 200


def failures(observed: Observed, stage: str) -> float:
    return observed.value("observability_errors_total", sink="watch", stage=stage)


def state_of(signal: Signal) -> tuple[Any, ...]:
    names = ("receivers", "_by_sender", "_by_receiver", "_weak_senders")
    return tuple(copy.copy(dict(getattr(signal, name))) for name in names)


class Hostile:
    """Fails at whatever it is asked."""

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("asked")

    __str__ = __repr__ = __bool__ = __hash__ = __eq__ = __len__ = __iter__ = __float__ = __int__ = _fail

    @property
    def id(self) -> Any:
        raise RuntimeError("asked")


class TestOutputs:
    def test_one_line_is_a_counter_a_span_event_a_record_and_an_audit_line(
        self, observed: Observed, paid: Signal
    ) -> None:
        observed.observability.watch(
            paid,
            count="orders_paid_total",
            labels={"currency": EUR_USD},
            span_event="order.paid",
            log="info",
            audit="{user}@{ip} paid {amount}",
            redact=("card",),
        )

        def view() -> None:
            g.current_user = "alice"
            paid.send(observed.app, amount=12.5, currency="EUR", card="4111")

        visit(observed, view)
        fields = {"amount": 12.5, "currency": "EUR", "card": "REDACTED"}
        assert observed.value("orders_paid_total", flask_app="shop", currency="EUR") == 1
        (event,) = observed.server_span.events
        assert (event.name, dict(event.attributes or {})) == ("order.paid", fields)
        (record,) = observed.records("order-paid")
        assert record.items() >= fields.items()
        assert record["level"] == "info"
        assert record["trace_id"] == observed.record["trace_id"]
        assert record["request_id"] == observed.record["request_id"]
        assert observed.audit_lines[0].endswith("+00:00] alice@127.0.0.1 paid 12.5")

    def test_a_closed_label_overflows_to_other_and_is_empty_where_it_is_missing(
        self, observed: Observed, paid: Signal
    ) -> None:
        observed.observability.watch(paid, count="orders_paid_total", labels={"currency": EUR_USD})
        for payload in ({"currency": "EUR"}, {"currency": "XXX"}, {"currency": Hostile()}, {}, {"currency": None}):
            paid.send("x", **payload)
        counted = {sample.labels["currency"]: sample.value for sample in observed.samples("orders_paid_total")}
        assert counted == {"EUR": 1, "USD": 0, "_OTHER": 2, "": 2}

    def test_a_label_may_be_a_number_or_a_member_of_an_enumeration(self, observed: Observed, paid: Signal) -> None:
        class Currency(enum.Enum):
            EUR = "EUR"

        observed.observability.watch(paid, count="paid_total", labels={"currency": ("EUR",), "parts": ("1", "2")})
        paid.send("x", currency=Currency.EUR, parts=2)
        assert observed.value("paid_total", currency="EUR", parts="2") == 1

    def test_a_dotted_field_looks_into_objects_and_mappings(self, observed: Observed, paid: Signal) -> None:
        class Order:
            currency = "EUR"
            customer = {"id": 7}  # noqa: RUF012

        observed.observability.watch(
            paid,
            count="paid_total",
            labels={"order.currency": EUR_USD},
            log="info",
            fields=("order.customer.id",),
        )
        paid.send("x", order=Order())
        assert observed.value("paid_total", order_currency="EUR") == 1
        assert observed.records("order-paid")[0]["order.customer.id"] == 7

    def test_a_histogram_measures_a_field_in_the_unit_of_its_name(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, measure="order_value_euros", value="amount", buckets=(10, 100))
        for amount in (5, 12.34, Decimal("0.01"), 1e6):
            paid.send("x", amount=amount)
        assert observed.value("order_value_euros_sum") == 1_000_017.35
        assert observed.value("order_value_euros_bucket", le="10.0") == 2
        assert observed.value("order_value_euros_bucket", le="100.0") == 3
        assert observed.value("order_value_euros_count") == 4

    def test_a_histogram_measures_what_a_callable_says_and_carries_an_exemplar(
        self, observed: Observed, paid: Signal
    ) -> None:
        observed.observability.watch(
            paid, measure="order_size_bytes", value=lambda sender, payload: len(payload["text"])
        )
        visit(observed, lambda: paid.send("x", text="four"))
        assert observed.value("order_size_bytes_sum") == 4
        text = observed.client().get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
        (line,) = [line for line in text.splitlines() if line.startswith("order_size_bytes_bucket") and "# {" in line]
        assert observed.record["trace_id"] in line

    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "12", None, True, Hostile()])
    def test_what_is_no_number_from_0_up_is_counted_and_not_measured(
        self, observe: Callable[..., Observed], paid: Signal, value: object
    ) -> None:
        observed = observe(strict=False)
        observed.observability.watch(paid, measure="order_value_euros", value="amount", buckets=(1,), log="info")
        paid.send("x", amount=value)
        assert observed.value("order_value_euros_count") == 0
        assert failures(observed, "value") == 1
        assert len(observed.records("order-paid")) == 1

    def test_a_span_lasts_from_the_signal_of_its_start_to_that_of_its_end(self, observed: Observed) -> None:
        namespace = Namespace()
        begun, done = namespace.signal("payment-begun"), namespace.signal("payment-done")
        observed.observability.watch(done, span=begun, measure="payment_duration_seconds", log="info")

        def view() -> None:
            begun.send("bank")
            begun.send("another")
            done.send("bank", outcome="taken")

        visit(observed, view)
        (span,) = [span for span in observed.spans if span.name == "payment-done"]
        assert span.parent is not None
        assert span.parent.span_id == observed.server_span.context.span_id
        assert dict(span.attributes or {}) == {"outcome": "taken"}
        seconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
        assert 0 < seconds < 1
        assert observed.value("payment_duration_seconds_sum") == pytest.approx(seconds)
        assert observed.records("payment-done")[0]["duration_seconds"] == pytest.approx(seconds)
        assert begun.receivers != {}

    def test_an_end_without_a_start_is_counted_and_told_without_a_span(self, observe: Callable[..., Observed]) -> None:
        observed = observe(strict=False)
        namespace = Namespace()
        begun, done = namespace.signal("begun"), namespace.signal("done")
        observed.observability.watch(done, span=begun, log="info")
        for path, signal in (("/first", begun), ("/second", done)):
            observed.app.add_url_rule(path, path, lambda signal=signal: str(signal.send("bank")))
        for path in ("/first", "/second"):
            observed.client().get(path)
        assert [span.name for span in observed.spans] == ["GET /first", "GET /second"]
        assert failures(observed, "pair") == 1
        assert len(observed.records("done")) == 1

    def test_a_span_may_last_as_long_as_the_payload_says(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, span=True, measure="payment_seconds", value="took")
        visit(observed, lambda: paid.send("bank", took=1.5))
        (span,) = [span for span in observed.spans if span.name == "order-paid"]
        assert (span.end_time or 0) - (span.start_time or 0) == 1_500_000_000

    def test_the_event_is_on_the_span_that_is_current(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, span_event=True)
        tracer = observed.provider.get_tracer("app")

        def view() -> None:
            with tracer.start_as_current_span("payment"):
                paid.send("bank", weight=1.5, parts=2**70, none=None)

        visit(observed, view)
        payment = next(span for span in observed.spans if span.name == "payment")
        assert [(event.name, dict(event.attributes or {})) for event in payment.events] == [
            ("order-paid", {"weight": 1.5, "parts": str(2**70)})
        ]
        assert observed.server_span.events == ()

    def test_what_no_span_can_have_is_left_out_of_the_requests_own_without_a_word(
        self, observed: Observed, paid: Signal, caplog: pytest.LogCaptureFixture
    ) -> None:
        observed.observability.watch(paid, span_event=True)
        visit(observed, lambda: paid.send("bank", parts=2**70, none=None, long="x" * 20))
        assert dict(observed.server_span.events[0].attributes or {}) == {"parts": str(2**70), "long": "x" * 20}
        assert caplog.text == ""

    @pytest.mark.parametrize(
        ("limits", "attributes"),
        [
            (SpanLimits(max_attribute_length=2), {"bank": "on", "amount": 5}),
            (SpanLimits(max_event_attributes=1), {"amount": 5}),
        ],
        ids=["length", "number"],
    )
    def test_the_providers_limits_hold(
        self, observe: Callable[..., Observed], paid: Signal, limits: SpanLimits, attributes: dict[str, Any]
    ) -> None:
        observed = observe(provider_options={"span_limits": limits})
        observed.observability.watch(paid, span_event=True)
        visit(observed, lambda: paid.send("x", bank="one", amount=5))
        assert dict(observed.server_span.events[0].attributes or {}) == attributes

    def test_a_request_that_is_not_sampled_has_no_event_and_counts(
        self, observe: Callable[..., Observed], paid: Signal
    ) -> None:
        observed = observe(provider_options={"sampler": ALWAYS_OFF})
        observed.observability.watch(paid, span_event=True, count="paid_total")
        visit(observed, lambda: paid.send("x"))
        assert observed.spans == []
        assert observed.value("paid_total") == 1

    def test_a_record_below_the_log_level_is_not_written(self, observe: Callable[..., Observed], paid: Signal) -> None:
        observed = observe(log_level="WARNING")
        observed.observability.watch(paid, log="info", name="quiet")
        observed.observability.watch(paid, log="ERROR", name="loud")
        paid.send("x")
        assert [record["event"] for record in observed.records()] == ["loud"]

    def test_a_sink_of_the_users_own_gets_the_event(self, observe: Callable[..., Observed], paid: Signal) -> None:
        events: list[Any] = []

        class Own(Sink):
            def event(self, event: Any, record: Any) -> None:
                events.append((event.name, event.fields, event.sender, record is not None))

        observed = observe(sinks=[Own()])
        observed.observability.watch(paid, fields=("amount",))
        visit(observed, lambda: paid.send("bank", amount=1, other=2))
        assert events == [("order-paid", {"amount": 1}, "bank", True)]

    def test_when_decides_what_counts(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(
            paid, count="large_total", when=lambda sender, payload: sender == "bank" and payload["amount"] > 10
        )
        for sender, amount in (("bank", 11), ("bank", 9), ("till", 11)):
            paid.send(sender, amount=amount)
        assert observed.value("large_total") == 1

    def test_a_condition_that_fails_is_counted_and_does_not_hold(
        self, observe: Callable[..., Observed], paid: Signal
    ) -> None:
        observed = observe(strict=False)
        observed.observability.watch(paid, count="large_total", when=lambda _, payload: payload["amount"])
        paid.send("x")
        paid.send("x", amount=Hostile())
        assert observed.value("large_total") == 0
        assert failures(observed, "when") == 2

    def test_only_the_senders_signals_count(self, observed: Observed, paid: Signal) -> None:
        sender = Hostile()
        observed.observability.watch(paid, count="own_total", sender=sender)
        observed.observability.watch(paid, count="any_total", sender=ANY)
        for each in (sender, Hostile(), "x", None):
            paid.send(each)
        assert (observed.value("own_total"), observed.value("any_total")) == (1, 4)

    def test_an_output_that_is_off_is_left_out(self, observe: Callable[..., Observed], paid: Signal) -> None:
        observed = observe(metrics=False, tracing=False, logs=False, audit_requests=False)
        observed.observability.watch(paid, count="paid_total", span_event=True, log="info", audit="paid {amount}")
        visit(observed, lambda: paid.send("x", amount=3))
        assert [line.partition("] ")[2] for line in observed.audit_lines] == ["paid 3"]
        assert observed.records() == []


class TestPayloads:
    def test_only_scalars_leave_by_default(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, log="info", span_event=True)
        payload = {
            "text": "t",
            "number": 1,
            "money": Decimal("1.20"),
            "id": UUID(int=7),
            "yes": True,
            "none": None,
            "object": object(),
            "list": [1],
            "bytes": b"b",
        }
        visit(observed, lambda: paid.send("x", **payload))
        (record,) = observed.records("order-paid")
        told = {key: record.get(key, "absent") for key in payload}
        assert told == {
            "text": "t",
            "number": 1,
            "money": "1.20",
            "id": str(UUID(int=7)),
            "yes": True,
            "none": None,
            "object": "absent",
            "list": "absent",
            "bytes": "absent",
        }

    def test_what_is_let_out_by_name_may_be_anything(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(
            paid, log="info", span_event=True, fields=("cart", "raw", "tags", "missing"), redact=("pin",)
        )
        cart: dict[str, Any] = {"pin": 1, "lines": [1, {"password": "x", "url": "https://u:secret@h"}]}
        cart["self"] = cart
        visit(observed, lambda: paid.send("x", cart=cart, raw=b"\xff", tags={"a"}, other=1))
        (record,) = observed.records("order-paid")
        assert record["cart"]["pin"] == "REDACTED"
        assert "secret" not in str(record)
        assert record["cart"]["lines"][1]["password"] == "REDACTED"
        assert (record["raw"], record["tags"]) == ("\\xff", ["a"])
        assert "other" not in record
        assert "missing" not in record

    def test_hostile_payloads_and_senders_harm_nothing(self, observe: Callable[..., Observed], paid: Signal) -> None:
        class Text(str):
            __slots__ = ()

            def __str__(self) -> str:
                raise RuntimeError

        observed = observe(strict=False)
        observed.observability.watch(
            paid,
            count="paid_total",
            labels={"label": ("a",), "thing.id": ("b",)},
            span_event=True,
            log="info",
            audit="{sender} {thing} {thing.id} {text} {gone}",
        )
        payload = {
            "label": Hostile(),
            "thing": Hostile(),
            "text": Text("ok"),
            "surrogate": "\udc80",
            "long": "x" * 10_000_000,
            "event": "forged",
            "level": "forged",
            "trace_id": "forged",
        }
        visit(observed, lambda: paid.send(Hostile(), **payload))
        (record,) = observed.records("order-paid")
        assert (record["text"], record["level"], record["event"]) == ("ok", "info", "order-paid")
        assert record["surrogate"] == "\\udc80"
        assert len(record["long"]) == 2048
        assert "forged" not in str(record)
        assert observed.audit_lines[0].endswith("] - - - ok -")
        assert failures(observed, "audit") == 4
        assert len(observed.server_span.events) == 1
        assert observed.value("paid_total", label="_OTHER", thing_id="_OTHER") == 1
        assert failures(observed, "labels") == 1

    def test_very_many_fields_are_cut(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, log="info")
        paid.send("x", **{f"f{number}": number for number in range(1000)})
        assert sum(key.startswith("f") for key in observed.records("order-paid")[0]) == 64

    def test_secrets_are_masked_in_every_output(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(
            paid, span_event=True, log="info", audit="{card} {note} {order.token}", redact=("card",)
        )
        card, bearer = "4111-x", "Bearer abcdef123456"

        class Order:
            token = "canary"

        visit(observed, lambda: paid.send("x", card=card, note=bearer, password="canary", order=Order()))
        told = (
            f"{observed.records()} {observed.audit_lines} {[dict(e.attributes) for e in observed.server_span.events]}"
        )
        for secret in (card, "abcdef123456", "canary"):
            assert secret not in told

    def test_a_payload_cannot_replace_what_is_the_requests(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, audit="{user}@{ip} paid {amount} at {path} by {sender} as {signal}")
        visit(
            observed,
            lambda: paid.send("till", user="root", ip="6.6.6.6", path="/x", signal="s", amount="1 at /forged\n["),
        )
        assert observed.audit_lines[0].partition("] ")[2] == (
            r"anonymous@127.0.0.1 paid 1\x20at\x20/forged\x0a[ at /pay by till as order-paid"
        )


class TestPlaces:
    """Where a signal may be sent."""

    def test_in_a_command(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total", span_event=True, log="info", audit="{user}@{ip} {path}")
        observed.app.cli.command("pay")(lambda: paid.send("cron") and None)
        result = observed.app.test_cli_runner().invoke(args=["pay"])
        assert result.exit_code == 0, result.output
        assert observed.value("paid_total") == 1
        assert observed.audit_lines[0].endswith("] anonymous@- -")
        assert len(observed.records("order-paid")) == 1

    def test_on_a_span_of_the_commands_own(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, span_event=True)
        with observed.provider.get_tracer("x").start_as_current_span("cron"):
            paid.send("cron")
        assert [event.name for event in observed.spans[0].events] == ["order-paid"]

    def test_in_a_thread_without_any_context_it_goes_to_the_app_of_the_watch(
        self, observed: Observed, paid: Signal
    ) -> None:
        observed.observability.watch(paid, count="paid_total", log="info")
        thread = threading.Thread(target=paid.send, args=("x",))
        thread.start()
        thread.join()
        assert observed.value("paid_total") == 1

    def test_in_a_thread_that_outlives_its_request(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total", span_event=True, log="info", audit="{user} {path}")
        contexts: list[contextvars.Context] = []
        visit(observed, lambda: contexts.append(contextvars.copy_context()))
        thread = threading.Thread(target=contexts[0].run, args=(paid.send, "x"))
        thread.start()
        thread.join()
        (record,) = observed.records("order-paid")
        assert record["trace_id"] == observed.record["trace_id"]
        assert observed.audit_lines[-1].endswith("] anonymous /pay")
        assert observed.server_span.events == ()

    def test_in_an_excluded_request_it_is_told_without_the_request(
        self, observe: Callable[..., Observed], paid: Signal
    ) -> None:
        observed = observe(exclude=("/pay",))
        observed.observability.watch(paid, count="paid_total", log="info", audit="{path}")
        visit(observed, lambda: paid.send("x"))
        (record,) = observed.records()
        assert (record["event"], "request_id" in record) == ("order-paid", False)
        assert [line.partition("] ")[2] for line in observed.audit_lines] == ["/pay"]

    def test_with_send_async(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total", asynchronous=True)
        asyncio.run(paid.send_async("x"))
        assert observed.value("paid_total") == 1

    def test_of_flasks_own_signals(self, observed: Observed) -> None:
        with observed.observability.watch(flask.request_finished, sender=observed.app, count="finished_total"):
            visit(observed, lambda: None)
        assert observed.value("finished_total") == 1

    def test_in_a_forked_process(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total", audit="from a child")
        child = os.fork()
        if child == 0:
            paid.send("x")
            os._exit(0 if observed.value("paid_total") == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert observed.value("paid_total") == 0
        assert len(observed.audit_lines) == 1


class TestApps:
    def test_a_watch_comes_before_or_after_the_app(self, observe: Callable[..., Observed], paid: Signal) -> None:
        observability = Observability(registry=CollectorRegistry(), logs=False, tracing=False, audit=False)
        app, later = Flask("first"), Flask("second")
        observability.watch(paid, count="paid_total")
        observability.init_app(app)
        observability.watch(paid, count="again_total")
        observability.init_app(later)
        for each in (app, later):
            with each.app_context():
                paid.send("x")
        paid.send("outside")
        text = app.test_client().get("/metrics").text
        for line in (
            'paid_total{flask_app="first"} 2.0',
            'paid_total{flask_app="second"} 1.0',
            'again_total{flask_app="first"} 2.0',
            'again_total{flask_app="second"} 1.0',
        ):
            assert line in text.splitlines()

    def test_what_happens_in_another_observed_app_is_that_ones_affair(
        self, observe: Callable[..., Observed], paid: Signal
    ) -> None:
        first = observe(Flask("first"), registry=CollectorRegistry())
        second = observe(Flask("second"), registry=CollectorRegistry())
        for each in (first, second):
            each.observability.watch(paid, count="paid_total")
        visit(second, lambda: paid.send("x"))
        with second.app.app_context():
            paid.send("x")
        assert (first.value("paid_total"), second.value("paid_total")) == (0, 2)

    def test_a_second_observability_of_an_app_watches_too(self, observed: Observed, paid: Signal) -> None:
        Observability(observed.app).watch(paid, count="paid_total")
        gc.collect()
        visit(observed, lambda: paid.send("x"))
        assert observed.value("paid_total") == 1

    def test_an_app_that_is_dropped_is_collected_with_its_watches(self, paid: Signal) -> None:
        before = state_of(paid)

        def make() -> weakref.ref[Flask]:
            app = Flask("gone")
            observability = Observability(app, registry=CollectorRegistry(), logs=False, tracing=False, audit=False)
            observability.watch(paid, count="paid_total", when=lambda sender, payload: app is not None, sender=app)
            observability.watch(paid, count="paid_total")
            return weakref.ref(app)

        gone = make()
        gc.collect()
        assert gone() is None
        paid.send("x")
        assert state_of(paid) == before or state_of(paid)[0] == {}

    def test_sixty_apps_leave_no_receivers(self, paid: Signal) -> None:
        registry = CollectorRegistry()
        for _ in range(60):
            app = Flask("shop")
            Observability(app, registry=registry, logs=False, tracing=False, audit=False).watch(
                paid, count="paid_total"
            )
        del app
        gc.collect()
        assert paid.receivers == {}

    def test_two_watches_share_a_metric_on_which_they_agree(self, observed: Observed) -> None:
        namespace = Namespace()
        first, second = namespace.signal("first"), namespace.signal("second")
        for signal in (first, second):
            observed.observability.watch(signal, count="events_total", labels={"kind": ("a",)})
            signal.send("x", kind="a")
        assert observed.value("events_total") == 2

    def test_watched_series_are_limited_like_all_others(self, observe: Callable[..., Observed], paid: Signal) -> None:
        observed = observe(max_series=3)
        observed.observability.watch(paid, count="paid_total", labels={"shelf": [str(n) for n in range(100)]})
        for number in range(10):
            paid.send("x", shelf=number)
        assert observed.value("paid_total") == 10
        assert len(observed.samples("paid_total")) == 4
        assert observed.value("observability_series_overflow_total", metric="paid_total") == 7

    def test_a_scrape_while_metrics_are_added_has_all_that_were_there(self, observed: Observed) -> None:
        without: list[str] = []
        over = threading.Event()

        def scrape() -> None:
            while not over.is_set():
                text = observed.client().get("/metrics").text
                without.extend([] if "observability_workers 1.0" in text else [text])

        namespace = Namespace()
        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            for number in range(150):
                observed.observability.watch(namespace.signal(f"s{number}"), count=f"things_{number}_total")
        finally:
            over.set()
            thread.join()
        assert without == []

    def test_a_scrape_may_ask_for_it_by_name_and_in_every_format(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total")
        paid.send("x")
        for accept in ("text/plain", "application/openmetrics-text"):
            named = observed.client().get("/metrics?name[]=paid_total", headers={"Accept": accept}).text
            whole = observed.client().get("/metrics", headers={"Accept": accept}).text
            assert 'paid_total{flask_app="shop"} 1.0' in named
            assert "observability_workers" not in named
            assert 'paid_total{flask_app="shop"} 1.0' in whole
            assert "observability_workers" in whole


class TestStopping:
    def test_stop_leaves_the_signal_as_it_was(self, observed: Observed, paid: Signal) -> None:
        def other(sender: object, **_: object) -> None:
            pass

        paid.connect(other, sender="till")
        before = state_of(paid)
        for sender in (ANY, "till", "new", Hostile(), observed.app, [1], None):
            watch = observed.observability.watch(paid, count="paid_total", sender=sender)
            assert state_of(paid) != before
            watch.stop()
            watch.stop()
            assert state_of(paid) == before
        paid.send("x")
        assert observed.value("paid_total") == 0

    def test_a_watch_is_a_context_manager(self, observed: Observed, paid: Signal) -> None:
        with observed.observability.watch(paid, count="paid_total") as watch:
            assert isinstance(watch, Watch)
            assert repr(watch) == "<Watch 'order-paid'>"
            paid.send("x")
        paid.send("x")
        assert observed.value("paid_total") == 1

    def test_a_watch_that_nobody_keeps_survives_the_garbage_collector(self, observed: Observed, paid: Signal) -> None:
        observed.observability.watch(paid, count="paid_total")
        gc.collect()
        paid.send("x")
        assert observed.value("paid_total") == 1

    def test_the_sender_is_not_kept(self, observed: Observed, paid: Signal) -> None:
        sender = Hostile()
        gone = weakref.ref(sender)
        observed.observability.watch(paid, count="paid_total", sender=sender)
        del sender
        gc.collect()
        assert gone() is None

    def test_threads_may_watch_and_stop_at_once(self, observed: Observed, paid: Signal) -> None:
        before = state_of(paid)

        def work() -> None:
            for _ in range(50):
                watch = observed.observability.watch(paid, count="paid_total")
                paid.send("x")
                watch.stop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state_of(paid)[0] == before[0]
        assert observed.value("paid_total") >= 200


def test_a_signal_that_is_watched_twice_in_the_same_way_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    observability, paid = Observability(), Namespace().signal("order-paid")
    shop, other = Flask("shop"), Flask("other")

    def create_app() -> None:
        observability.watch(paid, count="orders_paid_total", when=lambda _, payload: payload["paid"])

    create_app()
    observability.watch(paid, count="orders_paid_total", sender=other)
    observability.watch(paid, count="orders_paid_total", sender=shop)
    observability.watch(paid, count="orders_paid_total", when=lambda _, payload: payload["free"])
    assert caplog.messages == []
    create_app()
    (message,) = caplog.messages
    assert "order-paid is watched a second time in the same way" in message
    assert "beside Observability()" in message


def test_a_value_that_cannot_be_measured_names_the_signal_and_the_field(
    observe: Callable[..., Observed], caplog: pytest.LogCaptureFixture
) -> None:
    observed = observe(strict=False)
    paid = Namespace().signal("order-paid")
    observed.observability.watch(paid, measure="order_value_euros", value="amount", buckets=(1, 10))
    with observed.app.app_context():
        paid.send("shop", amount="12")
    assert "order-paid, value='amount': the value to measure is no number, but str" in caplog.text
