"""Where OpenTelemetry's context is kept: in the variable that is known, or anywhere else."""

from __future__ import annotations

import contextvars
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from flask_signal_observability.record import current_record
from flask_signal_observability.sinks import current_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Observed

ELSEWHERE = """
from opentelemetry import context as otel_context, trace
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

class Kept(ContextVarsRuntimeContext):
    seen = []
    def attach(self, context):
        self.seen.append(context)
        return super().attach(context)

otel_context._RUNTIME_CONTEXT = Kept()
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from flask_signal_observability import Observability
app = Flask("shop")
provider = TracerProvider(shutdown_on_exit=False)
Observability(app, tracer_provider=provider, metrics=False, logs=False, audit=False)

@app.get("/")
def index():
    context = trace.get_current_span().get_span_context()
    child = provider.get_tracer("app").start_span("child").get_span_context()
    return [context.is_valid, context.trace_id == child.trace_id, len(Kept.seen)]

assert app.test_client().get("/").json == [True, True, 1]
assert otel_context.get_current() == {}
"""


def test_the_variable_is_known_in_this_release() -> None:
    assert current_context.variable_of(getattr(otel_context, "_RUNTIME_CONTEXT", None)) is not None


def test_what_the_api_makes_current_is_current_here_and_the_other_way_round() -> None:
    context = Context({"key": "value"})
    token = otel_context.attach(context)
    assert current_context.get_current() is context
    otel_context.detach(token)
    token = current_context.attach(context)
    assert otel_context.get_current() is context
    current_context.reset(token)
    assert otel_context.get_current() is not context


@pytest.mark.parametrize("runtime", [None, object(), type("Own", (ContextVarsRuntimeContext,), {})()])
def test_a_runtime_context_of_another_class_is_left_to_the_api(runtime: object) -> None:
    assert current_context.variable_of(runtime) is None


def test_a_request_is_current_where_something_else_keeps_the_context(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_token_of_another_context_is_a_log_record_and_no_error(
    observe: Callable[..., Observed], caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("shop")

    @app.get("/")
    def index() -> str:
        # As a server would that calls the boundary's end in another greenlet than its beginning.
        record = current_record.get()
        assert record is not None
        record.span.token = contextvars.Context().run(current_context.attach, Context())
        return "told"

    observed = observe(app)
    before = otel_context.get_current()
    try:
        with caplog.at_level(logging.ERROR, "opentelemetry.context"):
            assert observed.client().get("/").text == "told"
    finally:
        otel_context.attach(before)
    assert [record.getMessage() for record in caplog.records] == ["Failed to detach context"]
    assert observed.record["http.response.status_code"] == 200
