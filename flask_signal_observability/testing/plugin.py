"""The plugin of pytest: a run without the fixture imports nothing but this file."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .observed import Observed

__all__ = ["observed"]

APP_FIXTURE = "app"


@pytest.fixture
def observed(request: pytest.FixtureRequest) -> Iterator[Observed]:
    """What the requests of the app leave: spans, samples, records, audit lines.

    Of the fixture ``app``, where there is one; of any other app after ``observed(app)``. What comes out of an app that
    has an ``Observability`` comes out as before, too; one that has none gets one for this test, which writes nowhere.
    """
    from .observed import Observed  # noqa: PLC0415

    with Observed() as observed:
        app = _app_of(request)
        if app is not None:
            observed(app)
        yield observed


def _app_of(request: pytest.FixtureRequest) -> Any:
    try:
        return request.getfixturevalue(APP_FIXTURE)
    except pytest.FixtureLookupError as error:
        if error.argname == APP_FIXTURE:
            return None
        raise
