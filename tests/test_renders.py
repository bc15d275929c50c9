"""Renders that overlap, fail or outlive what began them, and methods that only Werkzeug knows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import render_template

from flask_signal_observability import annotate

from .conftest import DURATION
from .conftest import Observed
from .test_boundary import serve
from .test_templates_and_errors import assert_within
from .test_templates_and_errors import OK
from .test_templates_and_errors import renders
from .test_templates_and_errors import sampled
from .test_templates_and_errors import site
from .test_templates_and_errors import status_of

Observe = Callable[..., Observed]


def test_a_failed_render_that_a_template_global_swallows_ends_all_the_same(observe: Observe) -> None:
    def widget() -> str:
        try:
            return render_template("fails.html")
        except ZeroDivisionError:
            return "?"

    app = site(lambda: render_template("nests.html"))
    app.jinja_env.globals["widget"] = widget
    observed = observe(app)
    assert observed.client().get("/").text == "[?]"
    assert sampled(observed) == {"fails.html": 1, "nests.html": 1}
    assert renders(observed).keys() == {"fails.html", "nests.html"}


def test_two_streamed_renders_in_one_body_are_both_told(observe: Observe) -> None:
    def view() -> flask.Response:
        first, second = flask.stream_template("page.html"), flask.stream_template("streams.html")
        return flask.Response(itertools.chain(first, second))

    observed = observe(site(view))
    assert observed.client().get("/").text == "a page012"
    assert sampled(observed) == {"page.html": 1, "streams.html": 1}
    assert [status_of(span) for span in renders(observed).values()] == [OK, OK]


def test_a_render_that_nothing_ended_lies_within_its_request(observe: Observe) -> None:
    app = site(lambda: render_template("fails.html"))
    app.register_error_handler(ZeroDivisionError, lambda _: ("sorry", 409))
    observed = observe(app)
    observed.client().get("/")
    assert_within(renders(observed)["fails.html"], observed.server_span)


def test_a_render_in_an_app_context_survives_another_context_within_it(observe: Observe) -> None:
    observed = observe(site(lambda: ""))

    def widget() -> str:
        with observed.app.app_context():
            return "a page"

    observed.app.jinja_env.globals["widget"] = widget
    with observed.app.app_context():
        render_template("nests.html")
    assert sampled(observed) == {"nests.html": 1}


@pytest.mark.parametrize("value", [type("Bad", (), {"__str__": lambda self: 1 / 0, "__repr__": lambda self: "x"})()])
def test_a_label_value_that_cannot_be_printed_costs_the_label_and_not_the_sample(value: Any, observe: Observe) -> None:
    observed = observe(
        site(lambda: annotate(tenant=value) or "hello"), metric_labels={"tenant": ("acme",)}, strict=False
    )
    assert observed.client().get("/").text == "hello"
    assert observed.value(f"{DURATION}_count") == 1


@pytest.mark.parametrize("sent", ["get", "Get"])
def test_a_method_that_flask_takes_for_a_known_one_is_told_as_that(sent: str, observe: Observe) -> None:
    observed = observe(site(lambda: "hello"))
    statuses, _, _ = serve(observed.app, REQUEST_METHOD=sent)
    assert statuses == ["200 OK"]
    attributes = observed.server_span.attributes or {}
    assert observed.server_span.name == "GET /"
    assert attributes["http.request.method"] == "GET"
    assert attributes["http.request.method_original"] == sent
    assert observed.duration_sample.labels["http_request_method"] == "GET"
