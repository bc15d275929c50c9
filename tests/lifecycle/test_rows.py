from __future__ import annotations

from collections.abc import Callable

import pytest

from ..conftest import Observed
from .outputs import assert_one_of_each
from .outputs import assert_quiet
from .outputs import assert_signals_counted
from .outputs import Facts
from .outputs import leaving_nothing_current
from .rows import Row
from .rows import ROWS
from .signals import Recorder

Observe = Callable[..., Observed]


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    scenario: Row = request.param
    return scenario.here()


def served(row: Row, observe: Observe) -> tuple[Observed, Recorder]:
    observed = observe()
    row.build(observed.app)
    recorder = Recorder(observed.app)
    raised: BaseException | None = None

    def serve() -> None:
        row.serve(observed.app, recorder, row.path, row.method)

    try:
        leaving_nothing_current(serve)
    except BaseException as error:
        raised = error
        if type(error).__name__ != row.raises:
            raise
    assert (type(raised).__name__ if raised else None) == row.raises
    return observed, recorder


def test_flask_sends_the_signals_of_the_table_and_each_is_counted(row: Row, observe: Observe) -> None:
    observed, recorder = served(row, observe)
    assert recorder.sequence(row.signals) == row.signals
    assert_signals_counted(observed, recorder.counts)


def test_every_scenario_ends_in_one_of_each_output_and_all_agree(
    row: Row, observe: Observe, caplog: pytest.LogCaptureFixture
) -> None:
    observed, _ = served(row, observe)
    assert_one_of_each(observed, Facts(row.route, row.status, row.error_type))
    assert_quiet(caplog)
