from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from flask import Flask

from flask_signal_observability.record import current_record
from flask_signal_observability.teardowns import told_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Observed

    Observe = Callable[..., Observed]


def test_an_app_that_is_observed_amid_a_teardown_runs_all_of_its_own_functions(observe: Observe) -> None:
    app, called = Flask("shop"), []
    names = ("first", "second", "third")
    for name in names:
        app.teardown_appcontext(lambda _error, name=name: called.append(name))
        app.teardown_request(lambda _error, name=name: called.append(name))
    lists = [app.teardown_appcontext_funcs, app.teardown_request_funcs[None]]
    walks = [reversed(functions) for functions in lists]  # as Flask goes, in another thread
    for walk in walks:
        next(walk)(None)
    observe(app)
    for walk in walks:
        for function in walk:
            function(None)
    assert sorted(called) == sorted(2 * names)


def test_ours_is_called_last_whatever_is_registered_before_and_after(observe: Observe) -> None:
    app, sent = Flask("shop"), []

    def note(_error: BaseException | None) -> None:
        record = current_record.get()
        sent.append([] if record is None else list(record.signals))

    app.teardown_request(note)
    observed = observe(app)
    app.teardown_request(note)
    app.add_url_rule("/", view_func=lambda: "")
    observed.client().get("/")
    assert len(sent) == 2
    assert all("request_tearing_down" not in signals for signals in sent)
    assert observed.value("flask_signals_total", signal="request_tearing_down") == 1


def test_an_app_that_has_served_can_be_observed(observe: Observe) -> None:
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "")
    app.test_client().get("/")
    observed = observe(app)
    observed.client().get("/")
    counts: dict[str, Any] = {
        signal: observed.value("flask_signals_total", signal=signal)
        for signal in ("request_tearing_down", "appcontext_tearing_down")
    }
    assert counts == {"request_tearing_down": 1, "appcontext_tearing_down": 1}
    assert all(told_here(app, signal) for signal in counts)
