"""Whatever is sent: nothing is raised, every output stays valid, and no text takes more than linear time."""

from __future__ import annotations

import time
from typing import Any
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from werkzeug.test import create_environ

from .hostile import ENVIRONS
from .hostile import PAYLOADS
from .hostile import target
from .hostile import VALUES
from .site import serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Observed

LENGTH = 2**18
PATTERNS = ("a", "=;,", "%25", '"\\', "1.", "[:", 'for="', "bearer ", "eyJ", "://a:", "4 ")
HEADERS = (
    *("traceparent", "tracestate", "baggage", "host", "x-forwarded-for", "forwarded", "cookie", "authorization"),
    *("user-agent", "x-request-id", "accept"),
)
FEW_SECONDS = 60.0
"""A quadratic expression needs an hour for so long a text, and all of this takes a second where all are linear."""


def test_any_request_and_payload_is_answered_as_by_the_bare_app_and_every_output_is_valid(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tried = target(tmp_path_factory.mktemp("hostile"))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ENVIRONS, PAYLOADS, VALUES.filter(lambda value: value.__hash__ is not None))
    def check(environ: dict[str, str], payload: dict[str, Any], sender: Any) -> None:
        tried.try_request(environ, payload, sender)

    check()
    tried.check_exposition()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_very_long_headers_take_linear_time(observe: Callable[..., Observed], pattern: str) -> None:
    observed = observe(capture_query=True, capture_request_headers=HEADERS, trusted_proxies=1)
    long = pattern * (LENGTH // len(pattern))
    environ = create_environ("/missing", query_string="")
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": long for name in HEADERS}
    environ |= {"QUERY_STRING": long, "PATH_INFO": f"/{long}"}
    started = time.perf_counter()
    serve(observed.app, environ)
    assert time.perf_counter() - started < FEW_SECONDS
    assert observed.value("http_server_active_requests") == 0
