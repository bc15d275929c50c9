"""By the statements that sqlite was really given."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import unquote

import flask
import pytest
import sqlalchemy
from flask import Flask
from flask import Response
from opentelemetry import context as otel_context
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from flask_signal_observability import annotate

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .conftest import Observed


@pytest.fixture
def executed() -> list[str]:
    """What sqlite executed."""
    return []


@pytest.fixture
def engine(executed: list[str]) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(
        engine=engine, enable_commenter=True, tracer_provider=TracerProvider(shutdown_on_exit=False)
    )

    def follow(connection: Any, _: object) -> None:
        connection.set_trace_callback(executed.append)

    sqlalchemy.event.listen(engine, "connect", follow)
    yield engine
    instrumentor.uninstrument()
    engine.dispose()


@pytest.fixture
def shop(engine: sqlalchemy.Engine) -> Flask:
    app = Flask("shop")

    def query(number: int = 0) -> str:
        with engine.connect() as connection:
            return str(connection.execute(sqlalchemy.text(f"SELECT {number}")).scalar())

    app.get("/orders/<int:number>", endpoint="order")(query)

    @app.get("/stream")
    def stream() -> Response:
        return Response(query(number) for number in range(2))

    @app.errorhandler(404)
    def not_found(error: object) -> str:
        return query()

    return app


def comments(executed: list[str]) -> list[dict[str, str]]:
    found = [re.search(r"/\*(.*)\*/", statement) for statement in executed if statement.startswith("SELECT")]
    return [
        dict(re.findall(r"(\w+)='([^']*)'", unquote(match[1].replace("%%", "%"))))
        for match in found
        if match is not None
    ]


def test_a_statement_says_which_view_of_which_framework_sent_it(
    shop: Flask, executed: list[str], observe: Callable[..., Observed]
) -> None:
    observed = observe(shop, sql_comments=True)
    observed.client().get("/orders/7")
    (comment,) = comments(executed)
    flask_version = f"flask:{metadata.version('flask')}"
    assert {key: comment[key] for key in ("framework", "controller", "route")} == {
        "framework": flask_version,
        "controller": "order",
        "route": "/orders/<int:number>",
    }
    assert comment["traceparent"].split("-")[1] == observed.record["trace_id"]


def test_every_chunk_of_a_stream_says_it(shop: Flask, executed: list[str], observe: Callable[..., Observed]) -> None:
    observe(shop, sql_comments=True)
    assert shop.test_client().get("/stream").text == "01"
    assert [comment["route"] for comment in comments(executed)] == ["/stream"] * 2


def test_a_url_that_matches_nothing_has_no_route(
    shop: Flask, executed: list[str], observe: Callable[..., Observed]
) -> None:
    observe(shop, sql_comments=True).client().get("/nowhere")
    (comment,) = comments(executed)
    assert "framework" in comment
    assert not {"route", "controller"} & set(comment)


def test_nothing_is_left_behind_for_what_comes_after_the_request(shop: Flask, observe: Callable[..., Observed]) -> None:
    before = otel_context.get_current()
    observe(shop, sql_comments=True).client().get("/orders/1")
    assert otel_context.get_current() == before


def test_nothing_is_left_in_the_context_where_the_request_could_not_be_made_current(
    shop: Flask, observe: Callable[..., Observed]
) -> None:
    class NoIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            raise RuntimeError

    before = otel_context.get_current()
    observed = observe(shop, sql_comments=True, strict=False, provider_options={"id_generator": NoIds()})
    assert observed.client().get("/orders/1").status_code == 200
    assert otel_context.get_current() is before


def test_it_is_off_unless_it_is_asked_for(shop: Flask, executed: list[str], observe: Callable[..., Observed]) -> None:
    observe(shop).client().get("/orders/7")
    (comment,) = comments(executed)
    assert not {"framework", "controller", "route"} & set(comment)


def test_spans_and_annotations_are_as_without_it(observe: Callable[..., Observed]) -> None:
    app = Flask("shop")

    @app.get("/")
    def index() -> str:
        annotate(tenant="acme")
        flask.flash("Hello")
        return ""

    app.secret_key = "x"
    with_it = observe(app, sql_comments=True)
    with_it.client().get("/")
    assert (with_it.server_span.attributes or {})["tenant"] == "acme"
    assert [event.name for event in with_it.server_span.events] == ["message_flashed"]
