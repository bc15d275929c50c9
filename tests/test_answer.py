from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import create_environ

from flask_signal_observability.answer import MAX_SIZE_DIGITS
from flask_signal_observability.answer import Sizes

if TYPE_CHECKING:
    from .conftest import Observed

Headers = list[tuple[str, str]]
Served = Callable[..., list[Headers]]


@pytest.fixture
def serve(observed: Observed) -> Served:
    """Return what serves one request by a WSGI application below the boundary, and what the server was given."""

    def serve(wsgi_app: Any, method: str = "GET") -> list[Headers]:
        given: list[Headers] = []

        def start_response(status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
            given.append(headers)
            if status.startswith("refused"):
                raise ValueError(status)
            return lambda data: None

        observed.app.wsgi_app.wsgi_app = wsgi_app  # type: ignore[attr-defined]
        observed.app.wsgi_app(create_environ("/", method=method), start_response)
        return given

    return serve


def ok(*headers: tuple[str, str], then: Callable[[Headers], None] = lambda headers: None) -> Any:
    def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        told = list(headers)
        start_response("200 OK", told)
        then(told)
        return [b"hello"]

    return wsgi_app


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "CONTENT-LENGTH"])
def test_a_content_length_is_read_however_it_is_spelt(serve: Served, observed: Observed, name: str) -> None:
    serve(ok((name, "5")))
    assert observed.record["http.response.body.size"] == 5


@pytest.mark.parametrize("text", ["9" * 5000, "-1", "five", ""])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_length_that_is_none_costs_no_request_id(serve: Served, observed: Observed, text: str, method: str) -> None:
    (headers,) = serve(ok(("Content-Length", text)), method)
    assert "X-Request-ID" in dict(headers)
    assert "http.response.body.size" not in observed.record


def test_long_texts_are_not_kept() -> None:
    sizes = Sizes()
    assert sizes["1" * MAX_SIZE_DIGITS] == int("1" * MAX_SIZE_DIGITS)
    assert sizes["1" * (MAX_SIZE_DIGITS + 1)] is None
    assert len(sizes) == 1


def test_what_an_app_does_with_its_list_afterwards_changes_no_captured_header(
    observe: Callable[..., Observed],
) -> None:
    observed = observe(capture_response_headers=("x-a",))
    observed.app.wsgi_app.wsgi_app = ok(("X-A", "1"), then=list.clear)  # type: ignore[attr-defined]
    observed.app.wsgi_app(create_environ("/"), lambda status, headers: lambda data: None)
    attributes = observed.server_span.attributes
    assert attributes is not None
    assert attributes["http.response.header.x-a"] == ("1",)


def test_a_second_answer_with_headers_that_cannot_be_read_keeps_nothing_of_the_first(
    observe: Callable[..., Observed],
) -> None:
    observed = observe(strict=False)

    def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        start_response("500 BROKEN", [("Content-Length", None)], (None, None, None))
        return [b"broken"]

    observed.app.wsgi_app.wsgi_app = wsgi_app  # type: ignore[attr-defined]
    observed.app.wsgi_app(create_environ("/"), lambda status, headers, exc_info=None: lambda data: None)
    assert observed.record["http.response.status_code"] == 500
    assert "http.response.body.size" not in observed.record


def test_an_answer_that_the_server_refuses_leaves_the_one_before_without_a_status_too(
    serve: Served, observed: Observed
) -> None:
    def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("OK", [("Content-Length", "5")])
        with pytest.raises(ValueError, match="refused"):
            start_response("refused", [("Content-Length", "7")], (ValueError, ValueError(), None))
        return [b"hello"]

    serve(wsgi_app)
    assert observed.record["http.response.body.size"] == 5
