"""A request leaves nothing behind: after it, and between two chunks of its body, everything is as it was before."""

from __future__ import annotations

import contextvars
import json
import os
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING
from typing import TypeVar

import flask
import pytest
from flask import Response
from opentelemetry import context as otel_context
from opentelemetry import trace

from flask_signal_observability.record import current_record

from .lifecycle.outputs import assert_quiet
from .lifecycle.rows import FLASK
from .mixed_traffic import expected
from .mixed_traffic import make_requests
from .test_boundary import serve

if TYPE_CHECKING:
    from .conftest import Observed

T = TypeVar("T")
Elsewhere = Callable[[Callable[[], T]], T]

REQUESTS = 10_000

ON_GREENLETS = """
from gevent import monkey
monkey.patch_all()
import dataclasses, json, sys
from pathlib import Path
from gevent.pool import Pool
from tests.mixed_traffic import make_requests
counts = make_requests(int(sys.argv[1]), Path(sys.argv[2]), Pool(100).imap_unordered)
print(json.dumps(dataclasses.asdict(counts)))
"""


def test_ten_thousand_requests_on_a_pool_of_threads_are_told_once_each_and_leave_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert make_requests(REQUESTS, tmp_path, pool.map) == expected(REQUESTS)


def test_ten_thousand_requests_on_greenlets_are_told_once_each_and_leave_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gevent", reason="gevent is not installed")
    command = [sys.executable, "-c", ON_GREENLETS, str(REQUESTS), str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    root = str(Path(__file__).parents[1])
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts == {**asdict(expected(REQUESTS)), "complaints": []}


def in_another_context(step: Callable[[], T]) -> T:
    return contextvars.Context().run(step)


def in_a_copy_of_the_context(step: Callable[[], T]) -> T:
    return contextvars.copy_context().run(step)


def in_another_thread(step: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()


elsewhere = pytest.mark.parametrize(
    "elsewhere", [in_another_context, in_a_copy_of_the_context, in_another_thread], ids=lambda e: e.__name__
)


def state_of() -> tuple[Any, Any]:
    return otel_context.get_current(), current_record.get()


def undisturbed(step: Callable[[], T]) -> T:
    """Take a step, and see that what is current where it is taken is the same after it."""
    before = state_of()
    try:
        return step()
    finally:
        after = state_of()
        assert all(one is other for one, other in zip(before, after, strict=True))


def streaming(observed: Observed, *, in_context: bool = False) -> Any:
    """Return the unread body of a stream that makes a span in each chunk, and one when it is closed."""
    tracer = observed.provider.get_tracer("app")

    def chunks() -> Iterator[str]:
        try:
            for chunk in "abc":
                with tracer.start_as_current_span("chunk"):
                    assert trace.get_current_span().get_span_context().is_valid
                yield chunk
        finally:
            tracer.start_span("closing").end()

    def view() -> Response:
        return Response(flask.stream_with_context(chunks()) if in_context else chunks())

    observed.app.add_url_rule("/", view_func=view)
    return undisturbed(lambda: serve(observed.app)[2])


def assert_told_once(observed: Observed, caplog: pytest.LogCaptureFixture) -> None:
    assert len(observed.server_spans) == len(observed.records("request_finished")) == len(observed.audit_lines) == 1
    assert observed.duration_sample.value == 1
    assert observed.value("http_server_active_requests") == observed.value("flask_app_contexts_active") == 0
    ids = {(span.context.trace_id, span.parent.span_id) for span in observed.spans if span.parent is not None}
    assert ids <= {(observed.server_span.context.trace_id, observed.server_span.context.span_id)}
    assert_quiet(caplog)


@elsewhere
def test_a_body_that_is_closed_elsewhere_disturbs_neither_place(
    observed: Observed, elsewhere: Elsewhere[None], caplog: pytest.LogCaptureFixture
) -> None:
    body = streaming(observed)
    undisturbed(lambda: next(body))
    undisturbed(lambda: elsewhere(lambda: undisturbed(body.close)))
    assert_told_once(observed, caplog)
    assert observed.record["client_disconnected"] is True
    assert [span.name for span in observed.spans] == ["chunk", "closing", "GET /"]


@elsewhere
def test_a_body_of_which_each_chunk_is_made_elsewhere_disturbs_no_place(
    observed: Observed, elsewhere: Elsewhere[bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    body = streaming(observed)
    step: Callable[[], bytes | None] = lambda: undisturbed(lambda: next(body, None))  # noqa: E731
    assert [undisturbed(lambda: elsewhere(step)) for _ in range(4)] == [b"a", b"b", b"c", None]
    elsewhere(lambda: undisturbed(body.close))
    assert_told_once(observed, caplog)
    assert len(observed.spans) == 5


@pytest.mark.skipif(FLASK < (3, 1, 2), reason="the context of a stream belongs to the thread of its view")
@elsewhere
def test_a_body_that_is_read_and_closed_elsewhere_keeps_flasks_context_too(
    observed: Observed, elsewhere: Elsewhere[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    body = streaming(observed, in_context=True)

    def read() -> bytes:
        with closing(body):
            return b"".join(undisturbed(lambda: next(body)) for _ in range(3))

    assert undisturbed(lambda: elsewhere(lambda: undisturbed(read))) == b"abc"
    assert_told_once(observed, caplog)


def test_a_body_whose_context_flask_cannot_give_back_is_told_once_all_the_same(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    def read_and_closed_elsewhere() -> None:
        body = streaming(observed, in_context=True)
        undisturbed(lambda: next(body))
        with pytest.raises((LookupError, ValueError)):  # Flask pops a context that is not there
            undisturbed(lambda: in_another_thread(lambda: undisturbed(body.close)))

    # Flask leaves its own context pushed where the chunk was made: in a copy of this one.
    contextvars.copy_context().run(read_and_closed_elsewhere)
    assert len(observed.server_spans) == len(observed.records("request_finished")) == len(observed.audit_lines) == 1
    assert observed.record["error.type"] in ("LookupError", "ValueError")
    assert observed.value("http_server_active_requests") == observed.value("flask_app_contexts_active") == 0
    assert_quiet(caplog)


def test_ambient_context_of_the_caller_is_back_between_two_chunks_and_after_a_failure(observed: Observed) -> None:
    def chunks() -> Iterator[str]:
        yield "a"
        otel_context.attach(otel_context.set_value("leaked", 1))
        yield "b"
        raise LookupError

    observed.app.add_url_rule("/", view_func=lambda: Response(chunks()))
    token = otel_context.attach(otel_context.set_value("mine", 1))
    try:
        body = undisturbed(lambda: serve(observed.app)[2])
        assert [undisturbed(lambda: next(body)) for _ in range(2)] == [b"a", b"b"]
        with pytest.raises(LookupError):
            undisturbed(lambda: next(body))
        undisturbed(body.close)
        assert otel_context.get_value("mine") == 1
    finally:
        otel_context.detach(token)


@pytest.mark.parametrize("error", [LookupError(), SystemExit(1), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_nothing_stays_current_when_a_request_fails_with_contexts_of_its_own_attached(
    observed: Observed, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> str:
        otel_context.attach(otel_context.set_value("leaked", 1))
        raise error

    observed.app.config["PROPAGATE_EXCEPTIONS"] = True
    observed.app.add_url_rule("/", view_func=view)
    with pytest.raises(type(error)):
        undisturbed(lambda: serve(observed.app))
    assert_quiet(caplog)
