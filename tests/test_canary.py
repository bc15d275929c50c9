"""A secret that a request brings in is in nothing that goes out."""

from __future__ import annotations

import io
import logging
from typing import Any
from typing import TYPE_CHECKING

import pytest
import structlog
from blinker import Signal
from flask import flash
from flask import Flask
from flask import render_template_string
from flask import request
from flask import session
from opentelemetry.sdk._logs import export

from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import Config
from flask_signal_observability.log_config import configure_logging
from flask_signal_observability.sinks.logs import LogsSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .conftest import Observed

PLAIN = "canary-4711"
"""Nothing in its shape says that it is one: only the key that it stands under does."""

PAID = Signal()

TOKEN = "eyJhbGciOiJIUzI1NiJ9.Y2FuYXJ5LTQ3MTE.c2lnbmF0dXJl"
SHAPED = {
    "token": TOKEN,
    "bearer": "Bearer canary-4711x",
    "card": "4242 4242 4242 4242",
    "url": "postgresql://shop:canary-4711@db/shop",
}
"""What is recognised wherever it stands: in a path, in the message of an exception."""

SECRETS = {
    "token": ("Y2FuYXJ5LTQ3MTE",),
    "bearer": (PLAIN,),
    "card": ("4242 4242", "4242+4242", "4242%204242"),
    "url": (PLAIN,),
}
"""The parts of it that must not be seen, however they are encoded."""
OPTIONS: dict[str, Any] = {
    "capture_query": True,
    "capture_request_headers": ("authorization", "cookie", "x-shop-key"),
    "capture_response_headers": ("set-cookie",),
    "redact": ("x-shop-key", "pin"),
}


@pytest.fixture
def outputs(observe: Callable[..., Observed]) -> Iterator[tuple[Flask, Callable[[], dict[str, str]]]]:
    """An app whose every output is kept, and what they hold."""
    console = io.StringIO()
    elastic = io.StringIO()
    loggers = io.StringIO()
    app = Flask("till")
    app.secret_key = "k"
    settings = {"service_name": "shop", "log_level": "DEBUG", "redact": OPTIONS["redact"]}
    sinks: list[Any] = [
        LogsSink(Config(log_format="console", log_stream=console, **settings)),
        LogsSink(Config(log_format="json", log_stream=elastic, log_schema="ecs", **settings)),
    ]
    sent = None
    if hasattr(export, "LogRecordExporter"):
        from .test_otlp_logs import Sent

        sent = Sent()
        takes_lines: Any = sent.stream
        sinks.append(LogsSink(Config(log_format="json", log_stream=takes_lines, **settings)))
    observed = observe(app, sinks=sinks, **OPTIONS)
    watch = observed.observability.watch(
        PAID,
        name="order_paid",
        log="info",
        span_event="order.paid",
        audit="paid {amount} with {card} and {token}",
        fields=("amount", "token", "pin", "card"),
        redact=("card",),
    )
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging(app, stream=loggers)

    def read() -> dict[str, str]:
        held = {
            "spans": "\n".join(span.to_json() for span in observed.spans),
            "metrics": observed.client().get("/metrics", headers={"Accept": "application/openmetrics-text"}).text,
            "json": observed.stream.getvalue(),
            "console": console.getvalue(),
            "ecs": elastic.getvalue(),
            "loggers": loggers.getvalue(),
            "audit": "\n".join(observed.audit_lines),
            "journal": "\n".join(observed.journal_lines),
        }
        if sent is not None:
            held["otlp"] = "\n".join(str(vars(record)) for record in sent.records)
        return held

    yield app, read
    watch.stop()
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    if sent is not None:
        sent.stream.close()


def test_a_secret_under_a_hidden_key_is_in_no_output(
    outputs: tuple[Flask, Callable[[], dict[str, str]]],
) -> None:
    app, read = outputs

    @app.post("/orders")
    def order() -> str:
        local = PLAIN
        session["token"] = PLAIN
        flash(PLAIN)
        annotate(token=PLAIN, deep=[{"password": PLAIN}], pin=PLAIN, headers=request.headers, form=request.form)
        access_logged.send("orders", secret=PLAIN)
        PAID.send("orders", amount=5, token=PLAIN, pin=PLAIN, card=PLAIN)
        structlog.get_logger().info("paid", pin=PLAIN, deep=({"client_secret": PLAIN},))
        logging.getLogger("till.orders").info("paid", extra={"api_key": PLAIN, "headers": request.headers})
        render_template_string("{{ local }}", local=local)
        raise LookupError("no such order")

    response = app.test_client().post(
        f"/orders?token={PLAIN}&pin={PLAIN}",
        data={"password": PLAIN, "pin": "1"},
        headers={"Authorization": f"Digest {PLAIN}", "X-Shop-Key": PLAIN, "Cookie": f"session={PLAIN}"},
    )
    assert response.status_code == 500
    held = read()
    assert [name for name, text in held.items() if "order" not in text] == []
    assert [name for name, text in held.items() if PLAIN in text] == []
    told = ("spans", "json", "ecs", "console", "audit") + ("otlp",) * ("otlp" in held)
    assert [name for name in told if "paid" not in held[name]] == []


@pytest.mark.parametrize("kind", SHAPED)
def test_what_looks_like_a_secret_is_in_no_output(
    outputs: tuple[Flask, Callable[[], dict[str, str]]], kind: str
) -> None:
    app, read = outputs
    shaped = SHAPED[kind]

    @app.get("/orders/<path:number>")
    def order(number: str) -> str:
        annotate(note=f"saw {shaped}", raw={shaped}, error=LookupError(shaped))
        structlog.get_logger().info(f"saw {shaped}", data=shaped.encode())
        logging.getLogger("till.orders").info("saw %s", shaped)
        raise LookupError(f"cannot use {shaped} here")

    assert app.test_client().get(f"/orders/{shaped}", query_string={"note": shaped}).status_code == 500
    held = read()
    assert [name for name, text in held.items() if any(part in text for part in SECRETS[kind])] == []
    assert "REDACTED" in held["journal"]


@pytest.mark.parametrize("pair", ["password={}", "api_key='{}'", "url: /v1?page=1&token={}", "DB_PASSWORD: {}"])
def test_a_secret_under_a_hidden_name_in_what_an_error_says_is_in_no_output(
    outputs: tuple[Flask, Callable[[], dict[str, str]]], pair: str
) -> None:
    app, read = outputs

    @app.get("/orders")
    def order() -> str:
        password = pair.format(PLAIN)
        try:
            raise KeyError(password)
        except KeyError as error:
            logging.getLogger("till.orders").exception("no order")
            raise LookupError(f"cannot use {password} here") from error

    assert app.test_client().get("/orders").status_code == 500
    held = read()
    assert [name for name, text in held.items() if PLAIN in text] == []
    told = ("spans", "json", "ecs", "console", "loggers", "journal") + ("otlp",) * ("otlp" in held)
    assert [name for name in told if "cannot use" not in held[name] and "no order" not in held[name]] == []


def test_without_messages_no_text_of_an_exception_is_in_any_output(observe: Callable[..., Observed]) -> None:
    app = Flask("till")

    @app.get("/")
    def home() -> str:
        try:
            raise KeyError(PLAIN)
        except KeyError as error:
            raise LookupError(PLAIN) from error

    observed = observe(app, exception_message=False)
    observed.client().get("/")
    texts = [*(span.to_json() for span in observed.spans), observed.stream.getvalue(), *observed.journal_lines]
    assert len(texts) == 3
    assert [text for text in texts if PLAIN in text] == []
    assert all("LookupError" in text for text in texts)
