"""Contexts without a request of a server: no span, no sample, no record, no audit line; their signals are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask
import pytest
from flask import Flask

from . import serving
from .outputs import assert_nothing_told
from .outputs import assert_quiet
from .outputs import assert_signals_counted
from .outputs import leaving_nothing_current
from .rows import FLASK
from .signals import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Observed


def in_an_app_context(app: Flask) -> None:
    with app.app_context():
        assert flask.current_app == app


def in_a_test_request_context(app: Flask) -> None:
    with app.test_request_context("/"):
        assert flask.request.path == "/"


def in_a_cli_command(app: Flask) -> None:
    app.cli.command("greet")(lambda: print(flask.current_app.name))
    assert app.test_cli_runner().invoke(args=["greet"]).output == "shop\n"


def in_a_context_that_fails(app: Flask) -> None:
    with pytest.raises(KeyError), app.test_request_context("/"):
        raise KeyError


def preprocessing_in_a_test_request_context(app: Flask) -> None:
    with app.test_request_context("/"):
        app.preprocess_request()


@pytest.mark.parametrize(
    ("act", "signals"),
    [
        (in_an_app_context, "P A O"),
        (in_a_cli_command, "P A O"),
        (in_a_test_request_context, "P R A O"),
        (in_a_context_that_fails, "P R[KeyError] A[KeyError] O"),
        (preprocessing_in_a_test_request_context, "P R A O"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_context_without_a_request_is_counted_and_told_to_nobody(
    act: Callable[[Flask], None], signals: str, observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(observed.app)
    leaving_nothing_current(lambda: act(observed.app))
    assert recorder.sequence(signals) == signals
    assert_signals_counted(observed, recorder.counts)
    assert_nothing_told(observed)
    assert_quiet(caplog)


def test_a_living_context_is_on_the_gauge_until_it_is_popped(observed: Observed) -> None:
    with observed.app.app_context():
        assert observed.value("flask_app_contexts_active") == 1
        with observed.app.app_context():
            assert observed.value("flask_app_contexts_active") == 2
    assert observed.value("flask_app_contexts_active") == 0


def test_the_context_that_a_test_client_keeps_is_on_the_gauge_while_it_is_kept(observed: Observed) -> None:
    observed.app.add_url_rule("/", view_func=lambda: "ok")
    with observed.app.test_client() as client:
        client.get("/")
        assert observed.value("http_server_active_requests") == 0
        assert observed.value("flask_app_contexts_active") > 0
    assert observed.value("flask_app_contexts_active") == 0


def test_a_teardown_that_fails_leaves_the_gauge_where_the_living_contexts_are(observed: Observed) -> None:
    def fail(_: object) -> None:
        raise KeyError

    observed.app.add_url_rule("/", view_func=lambda: "ok")
    observed.app.teardown_appcontext(fail)
    for _ in range(2):
        with pytest.raises(KeyError if FLASK < (3, 2) else Exception):
            serving.as_a_server(observed.app, Recorder(observed.app), "/", "GET")
        assert observed.value("flask_app_contexts_active") == 0
