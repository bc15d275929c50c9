"""OpenTelemetry's HTTP semantic conventions 1.44, to be held beside the tables of the pages themselves.

Server spans: https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
Server metrics: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/#http-server

Where the page says something and the package says less: ``url.query`` is conditionally required there and captured on
request here; of what is opt-in, and of the recommended metric attributes, only what is in the tables below is told.
``network.protocol.name`` is told where it is not ``http``, which it always is behind WSGI.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask import g
from flask import Response
from flask.sessions import SecureCookieSessionInterface
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.semconv._incubating.attributes import http_attributes as incubating_http
from opentelemetry.semconv._incubating.attributes import user_attributes
from opentelemetry.semconv._incubating.metrics import http_metrics as incubating_metrics
from opentelemetry.semconv.attributes import client_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.attributes import http_attributes
from opentelemetry.semconv.attributes import network_attributes
from opentelemetry.semconv.attributes import server_attributes
from opentelemetry.semconv.attributes import url_attributes
from opentelemetry.semconv.attributes import user_agent_attributes
from opentelemetry.semconv.metrics import http_metrics
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind
from opentelemetry.trace import StatusCode
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_signal_observability import catalogue

from .conftest import DURATION
from .conftest import Observed
from .test_boundary import serve

Observe = Callable[..., Observed]


class Outer:
    class Failure(Exception):
        """An error whose class has a qualified name."""


class Recorder(Sampler):
    """Takes down what a sampler is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, dict[str, Any]]] = []

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *_: Any,
        **__: Any,
    ) -> Any:
        self.asked.append((name, kind, dict(attributes or {})))
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes)

    def get_description(self) -> str:
        return "Recorder"


def shop() -> Flask:
    """An app in which everything can happen that the tables speak of."""
    app = Flask("shop")

    def chunks() -> Iterator[str]:
        yield "a"
        yield "b"

    def fail(error: type[BaseException]) -> str:
        raise error

    def log_in() -> str:
        g.current_user = "alice"
        return "hello"

    any_method = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "QUERY", "TRACE", "OPTIONS", "CONNECT", "BREW"]
    app.add_url_rule("/item/<int:number>", "item", lambda number: "item", methods=any_method)
    app.add_url_rule("/status/<int:code>", "status", lambda code: ("", code))
    app.add_url_rule("/stream", "stream", lambda: Response(chunks()))
    app.add_url_rule("/error", "error", lambda: fail(ZeroDivisionError))
    app.add_url_rule("/own-error", "own_error", lambda: fail(Outer.Failure))
    app.add_url_rule("/exit", "exit", lambda: fail(SystemExit))
    app.add_url_rule("/user", "user", log_in)
    return app


@dataclasses.dataclass(frozen=True)
class Request:
    """What a server hands to the app, and how much of the answer it reads."""

    path: str = "/item/1"
    environ: dict[str, Any] = dataclasses.field(default_factory=dict)
    leaves: bool = False
    """The client goes away after the first chunk."""


def send(observed: Observed, request: Request) -> dict[str, Any]:
    """Serve the request, and return its span's attributes."""
    path, _, query = request.path.partition("?")
    environ = {"QUERY_STRING": query, **request.environ}
    with contextlib.suppress(SystemExit):
        _, _, body = serve(observed.app, path, **environ)
        for _ in body:
            if request.leaves:
                break
        if hasattr(body, "close"):
            body.close()
    return dict(observed.server_spans[-1].attributes or {})


# Server spans, attribute by attribute.


@dataclasses.dataclass(frozen=True)
class Row:
    """An attribute: the columns of the convention's table, a request that has it, and one that has it not."""

    name: str
    level: str
    type: type
    at_creation: bool
    present: Request
    value: Any
    absent: Request | None = None
    """None for what every request has."""


PLAIN = Request()
NOT_HTTP = {"wsgi.url_scheme": "gopher"}
PEER = {"REMOTE_ADDR": "192.0.2.5", "REMOTE_PORT": "65123"}

REQUIRED = [
    Row(http_attributes.HTTP_REQUEST_METHOD, "required", str, True, PLAIN, "GET"),
    Row(url_attributes.URL_PATH, "required", str, True, Request("/item/2"), "/item/2"),
    Row(url_attributes.URL_SCHEME, "required", str, True, Request(environ={"wsgi.url_scheme": "https"}), "https"),
]

CONDITIONALLY_REQUIRED = [
    # If the request has ended with an error.
    Row(
        error_attributes.ERROR_TYPE,
        "conditional",
        str,
        False,
        Request("/error"),
        "ZeroDivisionError",
        Request("/status/404"),
    ),
    # If and only if it is different from http.request.method.
    Row(
        http_attributes.HTTP_REQUEST_METHOD_ORIGINAL,
        "conditional",
        str,
        True,
        Request(environ={"REQUEST_METHOD": "BREW"}),
        "BREW",
        PLAIN,
    ),
    # If and only if one was sent.
    Row(http_attributes.HTTP_RESPONSE_STATUS_CODE, "conditional", int, False, PLAIN, 200, Request("/exit")),
    # If and only if it is available.
    Row(http_attributes.HTTP_ROUTE, "conditional", str, True, PLAIN, "/item/<int:number>", Request("/missing")),
    # If it is available and server.address is set.
    Row(
        server_attributes.SERVER_PORT,
        "conditional",
        int,
        True,
        Request(environ={"HTTP_HOST": "shop.example:8080"}),
        8080,
        Request(environ={"HTTP_HOST": "shop.example", **NOT_HTTP}),
    ),
    # If and only if one was received.
    Row(url_attributes.URL_QUERY, "conditional", str, True, Request("/item/1?s=1&t=2"), "s=1&t=2", PLAIN),
]

RECOMMENDED = [
    Row(
        client_attributes.CLIENT_ADDRESS,
        "recommended",
        str,
        True,
        Request(environ={**PEER, "HTTP_X_FORWARDED_FOR": "192.0.2.4"}),
        "192.0.2.4",
        PLAIN,
    ),
    Row(
        network_attributes.NETWORK_PEER_ADDRESS,
        "recommended",
        str,
        True,
        Request(environ={**PEER, "HTTP_X_FORWARDED_FOR": "192.0.2.4"}),
        "192.0.2.5",
        PLAIN,
    ),
    Row(network_attributes.NETWORK_PEER_PORT, "recommended", int, True, Request(environ=PEER), 65123, PLAIN),
    # If the version is not known, it should not be set.
    Row(
        network_attributes.NETWORK_PROTOCOL_VERSION,
        "recommended",
        str,
        True,
        Request(environ={"SERVER_PROTOCOL": "HTTP/1.0"}),
        "1.0",
        Request(environ={"SERVER_PROTOCOL": "INCLUDED"}),
    ),
    Row(
        server_attributes.SERVER_ADDRESS,
        "recommended",
        str,
        True,
        Request(environ={"HTTP_HOST": "shop.example:8080"}),
        "shop.example",
        Request(environ={"HTTP_HOST": "not a host"}),
    ),
    Row(
        user_agent_attributes.USER_AGENT_ORIGINAL,
        "recommended",
        str,
        True,
        Request(environ={"HTTP_USER_AGENT": "curl/8.5.0"}),
        "curl/8.5.0",
        PLAIN,
    ),
]

OPT_IN = [
    Row(
        incubating_http.HTTP_REQUEST_BODY_SIZE,
        "opt-in",
        int,
        True,
        Request(environ={"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "3495"}),
        3495,
        PLAIN,
    ),
    Row(incubating_http.HTTP_RESPONSE_BODY_SIZE, "opt-in", int, False, Request("/stream"), 2, Request("/exit")),
    Row(user_attributes.USER_ID, "opt-in", str, False, Request("/user"), "alice", PLAIN),
]

OURS = [
    Row("flask.endpoint", "ours", str, True, PLAIN, "item", Request("/missing")),
    Row("flask.request_id", "ours", str, True, Request(environ={"HTTP_X_REQUEST_ID": "abc-1"}), "abc-1"),
    Row("client_disconnected", "ours", bool, False, Request("/stream", leaves=True), True, Request("/stream")),
]

TABLE = [*REQUIRED, *CONDITIONALLY_REQUIRED, *RECOMMENDED, *OPT_IN, *OURS]

each_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def captured(observe: Observe, **settings: Any) -> Observed:
    return observe(shop(), capture_query=True, trusted_proxies=1, **settings)


def test_the_table_is_the_catalogue() -> None:
    rows = {row.name: (row.level, row.at_creation) for row in TABLE}
    assert rows == {a.name: (a.level, a.at_creation) for a in catalogue.ATTRIBUTES.values()}


@each_row
def test_an_attribute_is_there_with_its_type_when_the_convention_asks_for_it(row: Row, observe: Observe) -> None:
    value = send(captured(observe), row.present)[row.name]
    assert value == row.value
    assert type(value) is row.type


@pytest.mark.parametrize("row", [row for row in TABLE if row.absent], ids=lambda row: row.name)
def test_an_attribute_is_left_out_when_there_is_nothing_to_say(row: Row, observe: Observe) -> None:
    assert row.absent is not None
    assert row.name not in send(captured(observe), row.absent)


@pytest.mark.parametrize("row", [row for row in TABLE if not row.absent], ids=lambda row: row.name)
@pytest.mark.parametrize("path", ["/missing", "/status/503", "/error", "/exit", "/stream"])
def test_a_required_attribute_is_there_whatever_happens(row: Row, path: str, observe: Observe) -> None:
    assert type(send(captured(observe), Request(path))[row.name]) is row.type


@each_row
def test_samplers_are_told_what_is_known_at_the_start_and_nothing_else(row: Row, observe: Observe) -> None:
    recorder = Recorder()
    send(captured(observe, provider_options={"sampler": recorder}), row.present)
    ((name, kind, attributes),) = recorder.asked
    assert (row.name in attributes) == row.at_creation
    assert attributes.get(row.name) == (row.value if row.at_creation else None)
    assert name.endswith(attributes["http.route"])
    assert kind is SpanKind.SERVER


def test_what_the_convention_wants_at_creation_is_at_creation() -> None:
    wanted = {
        client_attributes.CLIENT_ADDRESS,
        http_attributes.HTTP_REQUEST_METHOD,
        http_attributes.HTTP_ROUTE,
        server_attributes.SERVER_ADDRESS,
        server_attributes.SERVER_PORT,
        url_attributes.URL_PATH,
        url_attributes.URL_QUERY,
        url_attributes.URL_SCHEME,
        user_agent_attributes.USER_AGENT_ORIGINAL,
    }
    assert wanted <= {row.name for row in TABLE if row.at_creation}


def test_a_captured_request_header_is_at_creation_too(observe: Observe) -> None:
    recorder = Recorder()
    observed = captured(observe, capture_request_headers=("x-tenant",), provider_options={"sampler": recorder})
    send(observed, Request(environ={"HTTP_X_TENANT": "acme"}))
    ((_, _, attributes),) = recorder.asked
    assert attributes["http.request.header.x-tenant"] == ["acme"]


@each_row
def test_a_span_carries_nothing_that_is_in_no_table(row: Row, observe: Observe) -> None:
    assert send(captured(observe), row.present).keys() <= catalogue.ATTRIBUTES.keys()


def test_the_query_is_left_out_unless_it_is_asked_for(observe: Observe) -> None:
    assert "url.query" not in send(observe(shop()), Request("/item/1?s=1"))


# Name, kind and scope.


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (Request("/item/1"), "GET /item/<int:number>"),
        (Request("/item/1", {"REQUEST_METHOD": "QUERY"}), "QUERY /item/<int:number>"),
        (Request("/item/1", {"REQUEST_METHOD": "BREW"}), "HTTP /item/<int:number>"),
        (Request("/missing"), "GET"),
        (Request("/missing", {"REQUEST_METHOD": "BREW"}), "HTTP"),
        (Request("/stream", {"REQUEST_METHOD": "DELETE"}), "DELETE"),
    ],
    ids=["route", "QUERY", "_OTHER with a route", "no route", "_OTHER without a route", "method not allowed"],
)
def test_a_span_is_named_by_method_and_route_and_never_by_path(request_: Request, name: str, observe: Observe) -> None:
    observed = observe(shop())
    send(observed, request_)
    assert observed.server_span.name == name
    assert observed.server_span.kind is SpanKind.SERVER


def test_a_request_that_fails_before_routing_is_named_by_its_method(observe: Observe) -> None:
    class Broken(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: Any) -> Any:
            raise ConnectionError("no session store")

    app = shop()
    app.session_interface = Broken()
    observed = observe(app)
    attributes = send(observed, PLAIN)
    assert observed.server_span.name == "GET"
    assert {row.name for row in REQUIRED} <= attributes.keys()
    assert attributes["error.type"] == "ConnectionError"


def test_the_scope_names_the_schema_that_the_names_come_from(observe: Observe) -> None:
    observed = observe(shop())
    send(observed, PLAIN)
    scope = observed.server_span.instrumentation_scope
    assert scope is not None
    assert scope.name == "flask_signal_observability"
    assert scope.version
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"


def test_the_schema_is_one_that_opentelemetry_has_published() -> None:
    published = [schema.value for schema in Schemas]
    if "V1_44_0" not in Schemas.__members__:
        pytest.skip(f"the installed conventions end with {published[-1]}")
    assert catalogue.SCHEMA_URL in published


# Methods.


@pytest.mark.parametrize("method", sorted(catalogue.DEFAULT_KNOWN_METHODS))
def test_a_method_of_the_rfcs_is_told_as_it_is(method: str, observe: Observe) -> None:
    attributes = send(observe(shop()), Request(environ={"REQUEST_METHOD": method}))
    assert attributes["http.request.method"] == method
    assert "http.request.method_original" not in attributes


def test_the_known_methods_are_the_conventions() -> None:
    stable = {method.value for method in http_attributes.HttpRequestMethodValues}
    assert (stable - {"_OTHER"}) | {"QUERY"} == catalogue.DEFAULT_KNOWN_METHODS
    assert catalogue.OTHER in stable


def test_a_known_method_can_be_replaced_and_added_by_the_conventions_variable(
    observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "BREW, PUT")
    observed = observe(shop())
    for method in ("BREW", "PUT", "GET"):
        send(observed, Request(environ={"REQUEST_METHOD": method}))
    assert [span.attributes["http.request.method"] for span in observed.server_spans] == ["BREW", "PUT", "_OTHER"]
    assert [
        s.labels["http_request_method"] for s in observed.samples("http_server_request_duration_seconds_count")
    ] == [
        "BREW",
        "PUT",
        "_OTHER",
    ]


# Status and errors.


@pytest.mark.parametrize("code", [200, 204, 206, 301, 304, 308, 400, 401, 404, 405, 418, 429, 499])
def test_below_500_the_span_is_left_unset(code: int, observe: Observe) -> None:
    observed = observe(shop())
    attributes = send(observed, Request(f"/status/{code}"))
    assert attributes["http.response.status_code"] == code
    assert "error.type" not in attributes
    assert observed.server_span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("code", [500, 501, 502, 503, 504, 511, 599, 600, 999])
def test_from_500_on_the_span_is_an_error_of_that_status_and_not_described(code: int, observe: Observe) -> None:
    observed = observe(shop())
    attributes = send(observed, Request(f"/status/{code}"))
    assert attributes["http.response.status_code"] == code
    assert attributes["error.type"] == str(code)
    assert observed.server_span.status.status_code is StatusCode.ERROR
    assert observed.server_span.status.description is None


@pytest.mark.parametrize(
    ("path", "error_type", "status"),
    [
        ("/error", "ZeroDivisionError", 500),
        ("/own-error", f"{__name__}.Outer.Failure", 500),
        ("/exit", "SystemExit", None),
        ("/status/503", "503", 503),
        ("/item/1", None, 200),
    ],
)
def test_error_type_is_the_errors_class_or_the_status(
    path: str, error_type: str | None, status: int | None, observe: Observe
) -> None:
    observed = observe(shop())
    attributes = send(observed, Request(path))
    assert attributes.get("error.type") == error_type
    assert attributes.get("http.response.status_code") == status
    assert observed.record.get("error.type") == error_type
    assert observed.duration_sample.labels["error_type"] == (error_type or "")
    assert (observed.server_span.status.status_code is StatusCode.ERROR) == (error_type is not None)


def test_a_client_that_leaves_is_no_error_of_the_server(observe: Observe) -> None:
    observed = observe(shop())
    attributes = send(observed, Request("/stream", leaves=True))
    assert "error.type" not in attributes
    assert observed.server_span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(("status", "code"), [("999 X", 999), ("600 Beyond", 600), ("200", 200), ("odd", None)])
def test_a_status_line_that_no_registry_knows_is_told_as_it_was_sent(
    status: str, code: int | None, observe: Observe
) -> None:
    observed = observe(shop())
    observed.app.wsgi_app.wsgi_app = lambda environ, start_response: (start_response(status, []) and None) or [b""]
    attributes = send(observed, PLAIN)
    assert attributes.get("http.response.status_code") == code
    assert attributes.get("error.type") == (str(code) if code and code >= 500 else None)


# Where the server is.


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("shop.example", "http", "shop.example", 80),
        ("shop.example", "https", "shop.example", 443),
        ("shop.example:8080", "http", "shop.example", 8080),
        ("shop.example:443", "https", "shop.example", 443),
        ("192.0.2.7", "http", "192.0.2.7", 80),
        ("192.0.2.7:5000", "http", "192.0.2.7", 5000),
        ("[2001:db8::1]", "https", "2001:db8::1", 443),
        ("[2001:db8::1]:8443", "https", "2001:db8::1", 8443),
        ("[::1]:5000", "http", "::1", 5000),
        ("shop.example:99999", "http", None, None),
        ("[::1", "http", None, None),
        ("2001:db8::1", "http", None, None),
    ],
)
def test_the_host_header_is_address_and_port(
    host: str, scheme: str, address: str | None, port: int | None, observe: Observe
) -> None:
    attributes = send(observe(shop()), Request(environ={"HTTP_HOST": host, "wsgi.url_scheme": scheme}))
    assert attributes.get("server.address") == address
    assert attributes.get("server.port") == port


@pytest.mark.parametrize(("name", "address"), [("shop.internal", "shop.internal"), ("::1", "::1")])
def test_without_a_host_header_the_server_is_the_one_that_it_says_it_is(
    name: str, address: str, observe: Observe
) -> None:
    attributes = send(
        observe(shop()),
        Request(environ={"HTTP_HOST": "", "SERVER_NAME": name, "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.0"}),
    )
    assert (attributes["server.address"], attributes["server.port"]) == (address, 8000)


@pytest.mark.parametrize(
    ("peer", "address"), [("2001:DB8:0::5", "2001:db8::5"), ("::ffff:192.0.2.5", "192.0.2.5"), ("", None)]
)
def test_a_peer_has_one_spelling_and_one_on_a_unix_socket_has_none(
    peer: str, address: str | None, observe: Observe
) -> None:
    attributes = send(observe(shop()), Request(environ={"REMOTE_ADDR": peer}))
    assert attributes.get("network.peer.address") == attributes.get("client.address") == address


# Behind a proxy, and below another app.


PROXIED = {
    "REMOTE_ADDR": "10.0.0.1",
    "HTTP_HOST": "backend:5000",
    "HTTP_X_FORWARDED_FOR": "192.0.2.4",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "shop.example:8443",
    "HTTP_X_FORWARDED_PREFIX": "/shop",
}


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_a_proxy_fix_inside_or_outside_the_boundary_gives_what_the_client_asked_for(
    inside: bool, observe: Observe
) -> None:
    def fixed(application: Any) -> Any:
        return ProxyFix(application, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    app = shop()
    if inside:
        app.wsgi_app = fixed(app.wsgi_app)  # type: ignore[method-assign]
    observed = observe(app)
    if not inside:
        app.wsgi_app = fixed(app.wsgi_app)  # type: ignore[method-assign]
    attributes = send(observed, Request(environ=PROXIED))
    assert {
        name: attributes[name] for name in attributes if name.startswith(("client", "network", "server", "url"))
    } == {
        "client.address": "192.0.2.4",
        "network.peer.address": "10.0.0.1",
        "network.protocol.version": "1.1",
        "server.address": "shop.example",
        "server.port": 8443,
        "url.path": "/shop/item/1",
        "url.scheme": "https",
    }
    assert observed.server_span.name == "GET /shop/item/<int:number>"
    assert observed.duration_sample.labels["url_scheme"] == "https"
    assert observed.value("http_server_active_requests") == 0


def test_without_a_proxy_fix_no_header_moves_the_server(observe: Observe) -> None:
    attributes = send(observe(shop()), Request(environ=PROXIED))
    assert (attributes["server.address"], attributes["server.port"]) == ("backend", 5000)
    assert (attributes["url.scheme"], attributes["client.address"]) == ("http", "10.0.0.1")


@pytest.mark.parametrize(
    ("prefix", "mounted"),
    [("/shop", "/shop"), ("/shop/", "/shop"), ("/a/b", "/a/b"), ("/caf\xc3\xa9", "/café"), ("", "")],
)
def test_the_root_of_the_app_is_part_of_route_path_and_name(prefix: str, mounted: str, observe: Observe) -> None:
    observed = observe(shop())
    attributes = send(observed, Request(environ={"SCRIPT_NAME": prefix}))
    assert attributes["http.route"] == f"{mounted}/item/<int:number>"
    assert attributes["url.path"] == f"{mounted}/item/1"
    assert observed.server_span.name == f"GET {mounted}/item/<int:number>"


def test_an_app_below_another_that_is_observed_has_its_own_span_and_only_that(observe: Observe) -> None:
    root = observe(Flask("root"))
    below = observe(shop(), registry=root.registry)
    client = Client(DispatcherMiddleware(root.app, {"/api/v1": DispatcherMiddleware(root.app, {"/shop": below.app})}))
    client.get("/api/v1/shop/item/1")
    assert below.server_span.name == "GET /api/v1/shop/item/<int:number>"
    assert below.server_span.attributes["url.path"] == "/api/v1/shop/item/1"
    assert root.spans == []


# Headers and queries.


def test_headers_are_lists_under_their_lower_case_names_hyphens_and_all(observe: Observe) -> None:
    app = shop()
    headers = [("X-Cache-Status", "hit"), ("X-Cache-Status", "stale"), ("Content-Language", "de")]
    app.add_url_rule("/headers", view_func=lambda: ("", headers))
    observed = observe(
        app,
        capture_request_headers=("X-Forwarded-For", "content-type", "x-missing"),
        capture_response_headers=("X-Cache-Status", "content-language", "x-missing"),
    )
    sent = {"HTTP_X_FORWARDED_FOR": "1.2.3.4, 1.2.3.5", "CONTENT_TYPE": "application/json"}
    attributes = send(observed, Request("/headers", sent))
    assert {name: value for name, value in attributes.items() if ".header." in name} == {
        f"{http_attributes.HTTP_REQUEST_HEADER_TEMPLATE}.x-forwarded-for": ("1.2.3.4, 1.2.3.5",),
        f"{http_attributes.HTTP_REQUEST_HEADER_TEMPLATE}.content-type": ("application/json",),
        f"{http_attributes.HTTP_RESPONSE_HEADER_TEMPLATE}.x-cache-status": ("hit", "stale"),
        f"{http_attributes.HTTP_RESPONSE_HEADER_TEMPLATE}.content-language": ("de",),
    }


def test_no_header_is_captured_unless_it_is_named(observe: Observe) -> None:
    attributes = send(observe(shop()), Request(environ={"HTTP_X_TENANT": "acme"}))
    assert [name for name in attributes if ".header." in name] == []


@pytest.mark.parametrize(
    "key",
    [
        "AWSAccessKeyId",
        "Signature",
        "sig",
        "X-Goog-Signature",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
    ],
)
def test_the_conventions_secrets_are_masked_in_a_query_and_their_keys_stay(key: str, observe: Observe) -> None:
    attributes = send(captured(observe), Request(f"/item/1?color=blue&{key}=s3cr3t&q=a%20b"))
    assert attributes["url.query"] == f"color=blue&{key}=REDACTED&q=a%20b"


# Server metrics.


@dataclasses.dataclass(frozen=True)
class Instrument:
    """A metric of the convention, and how Prometheus spells it."""

    name: str
    unit: str
    prometheus: str
    required: set[str]
    allowed: set[str]
    """Beside what is required: conditionally required, recommended and opt-in attributes."""


COMMON = {http_attributes.HTTP_REQUEST_METHOD, url_attributes.URL_SCHEME}
OUTCOME = {error_attributes.ERROR_TYPE, http_attributes.HTTP_RESPONSE_STATUS_CODE, http_attributes.HTTP_ROUTE}

INSTRUMENTS = [
    Instrument(
        http_metrics.HTTP_SERVER_REQUEST_DURATION, "s", "http_server_request_duration_seconds", COMMON | OUTCOME, set()
    ),
    Instrument(
        incubating_metrics.HTTP_SERVER_ACTIVE_REQUESTS, "{request}", "http_server_active_requests", COMMON, set()
    ),
    Instrument(
        incubating_metrics.HTTP_SERVER_RESPONSE_BODY_SIZE, "By", "http_server_response_body_size_bytes", COMMON, OUTCOME
    ),
]

UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes", "{request}": ""}

each_instrument = pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.name)


@each_instrument
def test_a_metric_is_the_conventions_with_its_unit_in_the_name(instrument: Instrument) -> None:
    assert instrument.prometheus == instrument.name.replace(".", "_") + UNIT_SUFFIXES[instrument.unit]
    assert instrument.prometheus in catalogue.METRICS


@each_instrument
def test_labels_are_the_conventions_attributes_and_the_app(instrument: Instrument, observe: Observe) -> None:
    observed = observe(shop())
    send(observed, PLAIN)
    suffix = "" if instrument.unit == "{request}" else "_count"
    (sample,) = observed.samples(instrument.prometheus + suffix)
    labels = sample.labels.keys() - {"flask_app"}
    assert {name.replace(".", "_") for name in instrument.required} <= labels
    assert labels <= {name.replace(".", "_") for name in instrument.required | instrument.allowed}


def test_the_duration_has_the_conventions_buckets(observe: Observe) -> None:
    observed = observe(shop())
    send(observed, PLAIN)
    boundaries = [s.labels["le"] for s in observed.samples(f"{DURATION}_bucket")]
    advised = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, float("inf")]
    assert [float(boundary) for boundary in boundaries] == advised


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN,
        Request("/error"),
        Request("/status/404"),
        Request("/missing"),
        Request("/exit"),
        Request("/item/1", {"REQUEST_METHOD": "BREW", "wsgi.url_scheme": "https", "SCRIPT_NAME": "/shop"}),
    ],
    ids=["200", "error", "404 of a view", "no route", "nothing sent", "_OTHER"],
)
def test_a_label_says_what_the_attribute_says(request_: Request, observe: Observe) -> None:
    observed = observe(shop())
    attributes = send(observed, request_)
    labels = observed.duration_sample.labels
    told = {name: labels[name.replace(".", "_")] for name in COMMON | OUTCOME}
    assert told == {name: str(attributes.get(name, "")) for name in COMMON | OUTCOME}
