"""Whatever a client sends: the app answers as it would without us, nothing is raised, and each output is told once."""

from __future__ import annotations

import json
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask import request
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from werkzeug.test import create_environ

from .conftest import Observed

if TYPE_CHECKING:
    from pathlib import Path

LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
"""What a server can put into an environ: bytes, decoded as latin-1 (PEP 3333)."""

TRACEPARENTS = st.one_of(
    LATIN, st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,33}-[0-9a-f]{14,17}-[0-9a-f]{2}", fullmatch=True)
)

HOSTILE = st.fixed_dictionaries(
    {},
    optional={
        "REQUEST_METHOD": st.one_of(LATIN, st.sampled_from(["GET", "POST", "get", "BREW", ""])),
        "PATH_INFO": LATIN.map("/{}".format),
        "SCRIPT_NAME": st.one_of(LATIN, st.sampled_from(["/shop", "/shop/", "//"])),
        "QUERY_STRING": LATIN,
        "SERVER_PROTOCOL": LATIN,
        "REMOTE_ADDR": st.one_of(LATIN, st.ip_addresses().map(str)),
        "REMOTE_PORT": LATIN,
        "CONTENT_LENGTH": st.one_of(LATIN, st.integers().map(str)),
        "HTTP_HOST": st.one_of(LATIN, st.sampled_from(["[::1]:8080", "[::1", "a:b", "shop.example:99999", ""])),
        "HTTP_USER_AGENT": LATIN,
        "HTTP_X_REQUEST_ID": LATIN,
        "HTTP_TRACEPARENT": TRACEPARENTS,
        "HTTP_TRACESTATE": LATIN,
        "HTTP_BAGGAGE": LATIN,
        "HTTP_X_FORWARDED_FOR": LATIN,
        "HTTP_FORWARDED": LATIN,
        "HTTP_COOKIE": LATIN,
        "HTTP_AUTHORIZATION": LATIN,
    },
)


def site() -> Flask:
    app = Flask("hostile")  # its logger, which is switched off below, is no other test's
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.add_url_rule("/", view_func=lambda: request.method)
    app.add_url_rule("/<path:rest>", endpoint="rest", view_func=lambda rest: rest, methods=["GET", "POST"])
    app.logger.disabled = True
    return app


def answer(app: Flask, environ: dict[str, Any]) -> tuple[Any, ...]:
    """What a server would send: status, headers and body, or what the app raised."""
    given: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        given[:] = [status, [h for h in headers if h[0] != "X-Request-ID"]]

    try:
        body = b"".join(app(environ, start_response))
    except Exception as error:
        return type(error), str(error)
    return (*given, body)


@pytest.mark.parametrize("trusted_proxies", [0, 1])
def test_any_request_is_answered_as_by_the_bare_app_and_told_once(
    tmp_path_factory: pytest.TempPathFactory, trusted_proxies: int
) -> None:
    bare = site()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(HOSTILE)
    def check(hostile: dict[str, str]) -> None:
        directory: Path = tmp_path_factory.mktemp("hostile")
        observed = Observed(
            directory,
            site(),
            trusted_proxies=trusted_proxies,
            capture_query=True,
            capture_request_headers=("authorization", "x-forwarded-for", "host"),
            metrics_path=None,
            provider_options={"sampler": ALWAYS_ON},  # whatever flags the client sends
        )
        environ = create_environ("/")
        environ.update(hostile)
        assert answer(observed.app, dict(environ)) == answer(bare, dict(environ))
        assert len(observed.server_spans) == observed.duration_sample.value == len(observed.audit_lines) == 1
        json.loads(observed.server_span.to_json())
        assert observed.record["trace_id"] == f"{observed.server_span.context.trace_id:032x}"
        assert observed.value("http_server_active_requests") == 0

    check()
