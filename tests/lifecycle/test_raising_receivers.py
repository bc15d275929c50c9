"""Another receiver of the app's own raises: Blinker stops there, and does not define whose turn comes first."""

from __future__ import annotations

import contextvars
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from ..conftest import DURATION
from ..conftest import Observed
from . import apps
from . import serving
from .outputs import assert_one_of_each
from .outputs import assert_quiet
from .outputs import assert_signals_counted
from .outputs import Facts
from .outputs import leaving_nothing_current
from .rows import named
from .rows import ZERO
from .signals import RaisedByReceiver
from .signals import Recorder

Observe = Callable[..., Observed]

RAISED = named(RaisedByReceiver)
ANSWERED = "E[RaisedByReceiver] F[500] R[RaisedByReceiver] A[RaisedByReceiver] O"


@dataclasses.dataclass(frozen=True)
class Row:
    """The signal that another receiver raises in, what comes of it, and what differs where ours never got it."""

    letter: str
    build: apps.Build
    signals: str
    status: int | None = None
    route: str | None = "/"
    error_type: str = RAISED
    raises: type[Exception] | None = None
    unseen: dict[str, Any] = dataclasses.field(default_factory=dict)


ROWS = [
    Row("S", apps.answers, f"P S {ANSWERED}", 500),
    Row("F", apps.answers, f"P S F[200] {ANSWERED}", 500),
    Row("T0", apps.renders, f"P S T0 {ANSWERED}", 500),
    Row("T1", apps.renders, f"P S T0 T1 {ANSWERED}", 500),
    Row("M", apps.flashes, f"P S M {ANSWERED}", 500),
    Row(
        "E",
        apps.divides,
        f"P S E[{ZERO}] R[{ZERO}] A[{ZERO}] O",
        error_type=ZERO,
        raises=RaisedByReceiver,
        unseen={"error_type": RAISED},
    ),
    Row("R", apps.answers, "P S F[200] R A O", raises=RaisedByReceiver),
    Row("A", apps.answers, "P S F[200] R A", raises=RaisedByReceiver),
    Row("O", apps.answers, "P S F[200] R A O", raises=RaisedByReceiver),
    # Flask finds no request to pop, and that is what it raises.
    Row("P", apps.answers, "P E[RaisedByReceiver]", route=None, raises=LookupError),
]


ORDERS = [
    # Of the two teardown signals there is no receiver of ours that another one could come before.
    pytest.param(row, first, id=f"{row.letter} {'before' if first else 'after'} ours")
    for row in ROWS
    for first in (True, False)
    if not first or row.letter not in "RA"
]


@pytest.mark.parametrize(("row", "first"), ORDERS)
def test_a_receiver_that_raises_leaves_one_of_each_output(
    row: Row, first: bool, observe: Observe, caplog: pytest.LogCaptureFixture
) -> None:
    row = dataclasses.replace(row, **row.unseen) if first else row
    observed, recorder = observed_and_recorded(row, observe, first=first)
    # What raises in P leaks the application context: into a copy of this one.
    contextvars.copy_context().run(serve, row, observed, recorder)

    assert recorder.sequence(row.signals) == row.signals
    assert_signals_counted(observed, recorder.counts | ({row.letter: 0} if first else {}))
    assert_one_of_each(observed, Facts(row.route, row.status, row.error_type))
    assert_quiet(caplog)


def serve(row: Row, observed: Observed, recorder: Recorder) -> None:
    def request() -> None:
        serving.as_a_server(observed.app, recorder, "/", "GET")

    if row.raises is None:
        leaving_nothing_current(request)
    else:
        with pytest.raises(row.raises):
            leaving_nothing_current(request)


def observed_and_recorded(row: Row, observe: Observe, *, first: bool) -> tuple[Observed, Recorder]:
    """Observe an app whose recorder raises; Blinker is asked whether it really comes first, or last."""
    app = Flask("shop")
    row.build(app)
    observed = None if first else observe(app)
    recorder = Recorder(app, raises_in=row.letter)
    observed = observed or observe(app)
    assert recorder.comes_before_the_extension(row.letter, app) is first
    return observed, recorder


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_the_next_request_of_a_thread_that_a_context_leaked_into_is_observed_as_any_other(
    first: bool, observe: Observe
) -> None:
    row = next(row for row in ROWS if row.letter == "P")
    observed, recorder = observed_and_recorded(row, observe, first=first)

    def two_requests() -> None:
        serve(row, observed, recorder)
        serving.as_a_server(observed.app, recorder, "/", "GET")

    contextvars.copy_context().run(two_requests)
    assert recorder.sequence("") == "P E[RaisedByReceiver] S F[200] R"
    assert [record.get("http.response.status_code") for record in observed.records("request_finished")] == [None, 200]
    assert len(observed.server_spans) == len(observed.audit_lines) == 2
    assert observed.value(f"{DURATION}_count") == 2
    assert observed.value("http_server_active_requests") == 0
    assert observed.value("flask_app_contexts_active") == 0
