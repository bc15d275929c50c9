from __future__ import annotations

import dataclasses
import logging
import uuid
from types import SimpleNamespace
from typing import Any

import flask_login
import pytest
from flask import Flask
from flask import g
from flask import session
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_signal_observability.config import Config
from flask_signal_observability.identity import LOADED_LOGIN_USER
from flask_signal_observability.identity import make_details_reader
from flask_signal_observability.identity import make_reader
from flask_signal_observability.identity import make_user_reader
from flask_signal_observability.identity import path_of
from flask_signal_observability.identity import prefix_of
from flask_signal_observability.identity import request_id_from
from flask_signal_observability.record import RequestRecord
from flask_signal_observability.redaction import Redaction

PEER = "192.0.2.1"


def read(environ: dict[str, Any], **settings: Any) -> RequestRecord:
    """Return what the reader makes of an environ."""
    config = Config(**settings)
    redaction = Redaction(config.redact)
    pipeline = SimpleNamespace(read_details=make_details_reader(config, redaction))
    record = RequestRecord(None, "shop", environ, "GET", 0, 0, make_reader(config, redaction), pipeline)
    record.describe()
    return record


def client(trusted_proxies: int, **headers: str) -> str | None:
    """Return the client's address for HTTP_... headers that come from the peer."""
    return read({"REMOTE_ADDR": PEER, **headers}, trusted_proxies=trusted_proxies).client_address


# What the environ says


def test_a_whole_environ_is_read() -> None:
    environ = create_environ(
        "/dashboard", "https://shop.example:8443/", query_string="a=1", data=b"12345", method="POST"
    )
    environ.update(REMOTE_ADDR="203.0.113.7", REMOTE_PORT="50123", HTTP_USER_AGENT="curl/8")
    record = read(environ)
    expected = {
        "scheme": "https",
        "path": "/dashboard",
        "server_address": "shop.example",
        "server_port": 8443,
        "client_address": "203.0.113.7",
        "peer_address": "203.0.113.7",
        "peer_port": 50123,
        "protocol_version": "1.1",
        "user_agent": "curl/8",
        "request_size": 5,
    }
    assert {name: getattr(record, name) for name in expected} == expected
    assert record.query is None
    assert record.request_headers is None


def test_an_empty_environ_leaves_everything_unknown() -> None:
    record = read({})
    assert record.path == "/"
    assert (record.server_address, record.client_address, record.peer_address, record.peer_port) == (None,) * 4
    assert (record.protocol_version, record.user_agent, record.request_size) == (None,) * 3


def test_a_record_described_again_forgets_what_is_no_longer_so() -> None:
    environ = {"REMOTE_ADDR": PEER, "HTTP_USER_AGENT": "curl", "HTTP_HOST": "a"}
    record = read(environ)
    environ.clear()
    record.describe()
    assert (record.peer_address, record.user_agent, record.server_address) == (None, None, None)


@pytest.mark.parametrize(
    ("script_name", "path_info", "path", "prefix"),
    [
        ("", "/a", "/a", ""),
        ("", "", "/", ""),
        ("/api", "", "/api", "/api"),
        ("/api", "/a", "/api/a", "/api"),
        ("/api/", "/a", "/api/a", "/api"),
        ("", "/caf\xc3\xa9", "/café", ""),
        ("/\xc3\xa9", "/x", "/é/x", "/é"),
        ("", "/\xff", "/\ufffd", ""),
        ("", "/snow\u2603", "/snow?", ""),
        ("", "/a\nb", "/a\nb", ""),
    ],
)
def test_the_path_is_decoded_and_has_the_prefix(script_name: str, path_info: str, path: str, prefix: str) -> None:
    environ = {"SCRIPT_NAME": script_name, "PATH_INFO": path_info}
    assert read(environ).path == path == path_of(environ)
    assert prefix_of(environ) == prefix


@pytest.mark.parametrize(
    ("query", "kept"),
    [("a=1&sig=abc", "a=1&sig=REDACTED"), ("", None), ("q=\xc3\xa9", "q=é"), ("card=1", "card=REDACTED")],
)
def test_the_query_is_kept_masked_where_it_is_asked_for(query: str, kept: str | None) -> None:
    assert read({"QUERY_STRING": query}, capture_query=True, redact=("card",)).query == kept
    assert read({"QUERY_STRING": query}).query is None


@pytest.mark.parametrize(
    ("host", "scheme", "expected"),
    [
        ("shop", "http", ("shop", 80)),
        ("shop", "https", ("shop", 443)),
        ("shop", "HTTPS", ("shop", 443)),
        ("shop", "gopher", ("shop", None)),
        ("shop:", "http", ("shop", 80)),
        ("shop.example:8080", "http", ("shop.example", 8080)),
        ("my_shop:8080", "http", ("my_shop", 8080)),
        ("127.0.0.1:5000", "http", ("127.0.0.1", 5000)),
        ("[::1]", "http", ("::1", 80)),
        ("[2001:DB8:0::1]:8080", "http", ("2001:db8::1", 8080)),
        ("[::1", "http", (None, None)),
        ("[1.2.3]", "http", (None, None)),
        ("::1", "http", (None, None)),
        ("a:b", "http", (None, None)),
        ("shop:0", "http", (None, None)),
        ("shop:65536", "http", (None, None)),
        ("shop:99999999", "http", (None, None)),
        ("a b", "http", (None, None)),
        ("a/b", "http", (None, None)),
        ("u@a", "http", (None, None)),
        ("a\n", "http", (None, None)),
        ("\xe9", "http", (None, None)),
        ("a" * 254, "http", (None, None)),
        ("a" * 9999, "http", (None, None)),
    ],
)
def test_the_host_header_gives_the_server(host: str, scheme: str, expected: tuple[str | None, int | None]) -> None:
    record = read({"HTTP_HOST": host, "wsgi.url_scheme": scheme, "SERVER_NAME": "other", "SERVER_PORT": "1"})
    assert (record.server_address, record.server_port) == expected


@pytest.mark.parametrize(
    ("name", "port", "expected"),
    [
        ("shop", "8080", ("shop", 8080)),
        ("::1", "8080", ("::1", 8080)),
        ("shop", "", ("shop", 80)),
        ("shop", 8080, ("shop", 8080)),
        ("/run/shop.sock", "", (None, None)),
    ],
)
def test_without_a_host_header_the_server_says_its_name(
    name: str, port: object, expected: tuple[str | None, int | None]
) -> None:
    for host in ({}, {"HTTP_HOST": ""}):
        record = read({"SERVER_NAME": name, "SERVER_PORT": port, "wsgi.url_scheme": "http", **host})
        assert (record.server_address, record.server_port) == expected


@pytest.mark.parametrize(
    ("sent", "version"),
    [("HTTP/1.0", "1.0"), ("HTTP/1.1", "1.1"), ("HTTP/2", "2"), ("HTTP/2.0", "2"), ("INCLUDED", None), ("", None)],
)
def test_the_protocol_version_is_a_known_one(sent: str, version: str | None) -> None:
    assert read({"SERVER_PROTOCOL": sent}).protocol_version == version


@pytest.mark.parametrize(
    ("sent", "size"),
    [("0", 0), ("12", 12), ("", None), ("-1", None), ("1_0", None), ("x", None), ("9" * 5000, None), ("\xb2", None)],
)
def test_the_request_size_is_a_number(sent: str, size: int | None) -> None:
    assert read({"CONTENT_LENGTH": sent}).request_size == size


@pytest.mark.parametrize(
    ("sent", "port"),
    [("1234", 1234), (1234, 1234), ("", None), ("0", None), ("65536", None), ("-1", None), ("x", None)],
)
def test_the_peers_port_is_a_number(sent: object, port: int | None) -> None:
    assert read({"REMOTE_PORT": sent}).peer_port == port


def test_captured_headers_are_lists_and_masked() -> None:
    environ = {
        "HTTP_ACCEPT": "caf\xc3\xa9",
        "HTTP_X_AUTH_TOKEN": "s3cr3t",
        "HTTP_X_TENANT": "acme",
        "CONTENT_TYPE": "text/plain",
    }
    captured = ("accept", "x-auth-token", "x-tenant", "content-type", "x-missing")
    assert read(environ, capture_request_headers=captured, redact=("tenant",)).request_headers == {
        "accept": ["café"],
        "x-auth-token": ["REDACTED"],
        "x-tenant": ["REDACTED"],
        "content-type": ["text/plain"],
    }


# The client behind proxies


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("<local>", None),
        ("/run/shop.sock", None),
    ],
)
def test_the_peer_is_the_sockets_address(address: str, written: str | None) -> None:
    record = read({"REMOTE_ADDR": address})
    assert (record.peer_address, record.client_address) == (written, written)


@pytest.mark.parametrize(
    ("trusted_proxies", "header", "expected"),
    [
        (0, "198.51.100.1", PEER),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
        (3, "198.51.100.1,10.0.0.1", "198.51.100.1"),
        (1, "198.51.100.1:4711", "198.51.100.1"),
        (1, " [2001:db8::1]:4711 ", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "2001:DB8::1", "2001:db8::1"),
        (1, "::ffff:198.51.100.1", "198.51.100.1"),
        (1, "unknown", PEER),
        (1, "", PEER),
        (1, "198.51.100.1,", PEER),
        (1, "198.51.100.300", PEER),
        (1, "[::1]x", PEER),
        (1, "fe80::1%\nforged", "fe80::1"),
        (1, "6.6.6.6, shop.example", PEER),
        (1, "1" * 10_000, PEER),
    ],
)
def test_x_forwarded_for_is_believed_as_far_as_proxies_are_trusted(
    trusted_proxies: int, header: str, expected: str
) -> None:
    assert client(trusted_proxies, HTTP_X_FORWARDED_FOR=header) == expected


@pytest.mark.parametrize(
    ("trusted_proxies", "header", "expected"),
    [
        (0, "for=198.51.100.1", PEER),
        (1, "for=198.51.100.1", "198.51.100.1"),
        (1, "by=10.0.0.1; FOR=198.51.100.1;proto=https", "198.51.100.1"),
        (1, 'for="198.51.100.1:4711"', "198.51.100.1"),
        (1, 'For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        (1, 'for="[2001:db8:cafe::17]:_port"', "2001:db8:cafe::17"),
        (2, "for=6.6.6.6, for=198.51.100.1;proto=https, for=10.0.0.1", "198.51.100.1"),
        (3, "for=198.51.100.1, for=10.0.0.1", "198.51.100.1"),
        (1, "for=_hidden", PEER),
        (1, "for=unknown", PEER),
        (1, "proto=https", PEER),
        (1, "", PEER),
        (1, 'for="6.6.6.6, for=198.51.100.1', "198.51.100.1"),
    ],
)
def test_forwarded_is_believed_as_far_as_proxies_are_trusted(trusted_proxies: int, header: str, expected: str) -> None:
    assert client(trusted_proxies, HTTP_FORWARDED=header) == expected


def test_forwarded_counts_only_where_x_forwarded_for_is_absent() -> None:
    assert client(1, HTTP_FORWARDED="for=6.6.6.6", HTTP_X_FORWARDED_FOR="198.51.100.1") == "198.51.100.1"
    assert client(1, HTTP_FORWARDED="for=6.6.6.6", HTTP_X_FORWARDED_FOR="unknown") == PEER


def test_the_peer_stays_the_peer_behind_trusted_proxies() -> None:
    record = read({"REMOTE_ADDR": PEER, "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, trusted_proxies=1)
    assert record.peer_address == PEER


def test_a_proxy_on_a_unix_socket_tells_the_client() -> None:
    record = read({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}, trusted_proxies=1)
    assert (record.client_address, record.peer_address) == ("198.51.100.1", None)


def proxied_environ(**proxy_fix: int) -> dict[str, Any]:
    """Return the environ that an app gets inside of a real ProxyFix."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [])
        return []

    headers = {
        "X-Forwarded-For": "6.6.6.6, 198.51.100.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
        "X-Forwarded-Prefix": "/api",
    }
    environ = create_environ("/a", headers=headers, environ_overrides={"REMOTE_ADDR": PEER})
    run_wsgi_app(ProxyFix(app, **proxy_fix), environ)
    return seen


def test_what_proxy_fix_decided_is_honoured() -> None:
    record = read(proxied_environ(x_for=1, x_proto=1, x_host=1, x_prefix=1))
    assert (record.client_address, record.peer_address) == ("198.51.100.1", PEER)
    assert (record.scheme, record.server_address, record.server_port) == ("https", "shop.example", 443)
    assert record.path == "/api/a"


def test_a_proxy_fix_that_trusts_no_address_leaves_the_peer() -> None:
    record = read(proxied_environ(x_for=0))
    assert (record.client_address, record.peer_address) == (PEER, PEER)


def test_an_address_from_proxy_fix_that_is_none_gives_the_peer() -> None:
    environ = proxied_environ(x_for=1)
    environ["REMOTE_ADDR"] = "unknown"
    assert read(environ).client_address == PEER


def test_trusted_proxies_are_ignored_where_proxy_fix_acted_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    environ = proxied_environ(x_for=1)
    reader = make_reader(Config(trusted_proxies=2), Redaction())
    with caplog.at_level(logging.WARNING, "flask_signal_observability"):
        for _ in range(3):
            record = RequestRecord(None, "shop", environ, "GET", 0, 0, reader)
            record.describe()
            assert record.client_address == "198.51.100.1"
    assert [message for message in caplog.messages if "ProxyFix" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_proxy_fix_inside_the_boundary_counts_once_it_has_acted() -> None:
    environ = create_environ("/", headers={"X-Forwarded-For": "198.51.100.1"}, environ_overrides={"REMOTE_ADDR": PEER})
    record = read(environ)
    assert record.client_address == PEER
    ProxyFix(lambda environ, start_response: [])(environ, lambda *_: lambda _: None)
    record.describe()
    assert (record.client_address, record.peer_address) == ("198.51.100.1", PEER)


def test_credentials_in_an_agent_are_masked() -> None:
    assert read({"HTTP_USER_AGENT": "curl Bearer abcdefghijklmnop"}).user_agent == "curl Bearer REDACTED"
    long = "x" * 600
    assert read({"HTTP_USER_AGENT": f"{long} Bearer abcdefghijklmnop"}).user_agent == f"{long} Bearer REDACTED"


def test_nothing_is_told_of_a_request_that_was_not_described_yet() -> None:
    record = read({"REMOTE_PORT": "50000"})
    record.path, record.details = "", None
    assert record.peer_port is None
    record.describe()
    assert record.peer_port == 50000


LATIN_1 = st.text(st.characters(codec="latin-1"))
HOSTILE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [
            "wsgi.url_scheme",
            "SCRIPT_NAME",
            "PATH_INFO",
            "QUERY_STRING",
            "SERVER_NAME",
            "SERVER_PORT",
            "SERVER_PROTOCOL",
            "HTTP_HOST",
            "REMOTE_ADDR",
            "REMOTE_PORT",
            "HTTP_X_FORWARDED_FOR",
            "HTTP_FORWARDED",
            "HTTP_USER_AGENT",
            "HTTP_ACCEPT",
            "CONTENT_LENGTH",
        ],
        LATIN_1 | st.text('0123456789abf.:[]",;=%_-for', max_size=30) | st.ip_addresses().map(str),
    ),
)


@given(HOSTILE, st.integers(0, 3))
def test_nothing_that_a_client_sends_makes_the_reader_raise(environ: dict[str, Any], trusted_proxies: int) -> None:
    record = read(environ, trusted_proxies=trusted_proxies, capture_query=True, capture_request_headers=("accept",))
    for texts in (record.scheme, record.path):
        assert isinstance(texts, str)
    for text in (record.query, record.server_address, record.client_address, record.peer_address, record.user_agent):
        assert text is None or (isinstance(text, str) and text)
    for number in (record.server_port, record.peer_port, record.request_size):
        assert number is None or (isinstance(number, int) and number >= 0)
    assert record.request_headers is not None
    for address in (record.client_address, record.peer_address):
        assert address is None or set(address) <= set("0123456789abcdef.:")


# The request id


@pytest.mark.parametrize("sent", ["a", "A-z_0.9:/+=@", "x" * 128, "0af7651916cd43dd8448eb211c80319c"])
def test_a_good_request_id_is_accepted(sent: str) -> None:
    assert request_id_from({"HTTP_X_REQUEST_ID": sent}, "HTTP_X_REQUEST_ID") == sent


@pytest.mark.parametrize("sent", [None, "", " ", "a b", "a\n", "a\tb", "x" * 129, "é", "\u0661", "a,b", "<a>", '"a"'])
def test_any_other_request_id_is_replaced(sent: str | None) -> None:
    environ = {} if sent is None else {"HTTP_X_REQUEST_ID": sent}
    made = request_id_from(environ, "HTTP_X_REQUEST_ID")
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")
    assert made != request_id_from(environ, "HTTP_X_REQUEST_ID")


def test_the_request_id_comes_from_the_header_that_was_asked_for() -> None:
    assert request_id_from({"HTTP_X_REQUEST_ID": "a", "HTTP_X_TRACE": "b"}, "HTTP_X_TRACE") == "b"


# The user


class Member(flask_login.UserMixin):
    def __init__(self, id: object) -> None:  # noqa: A002
        self.id = id


class Numbered:
    def __str__(self) -> str:
        return "number 7"


@pytest.mark.parametrize(
    ("value", "user"),
    [
        (None, None),
        ("", None),
        ("alice", "alice"),
        (7, "7"),
        (0, "0"),
        (Numbered(), "number 7"),
        (Member(7), "7"),
        (flask_login.AnonymousUserMixin(), None),
    ],
)
def test_a_user_becomes_text(value: object, user: str | None) -> None:
    assert make_user_reader(Config(user=lambda: value))() == user
    with Flask("shop").app_context():
        g.current_user = value
        assert make_user_reader(Config())() == user


def test_the_apps_own_function_decides_alone() -> None:
    with Flask("shop").app_context():
        g.current_user = "alice"
        assert make_user_reader(Config(user=lambda: None))() is None


@dataclasses.dataclass
class Account:
    id: int
    password_hash: str = "pbkdf2:xyz"


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ({"id": 1, "password_hash": "pbkdf2:xyz"}, "1"),
        ({"password_hash": "pbkdf2:xyz"}, None),
        (Account(7), "7"),
        (["alice"], None),
        (object(), None),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_a_user_is_named_and_never_written_out_whole(user: object, text: str | None) -> None:
    assert make_user_reader(Config(user=lambda: user))() == text


def test_what_the_apps_own_function_raises_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        make_user_reader(Config(user=lambda: 1 // 0))()


def test_in_a_context_without_a_user_there_is_none() -> None:
    with Flask("shop").app_context():
        assert make_user_reader(Config())() is None


class Lent(Flask.app_ctx_globals_class):
    """Has values of somewhere else."""

    def get(self, name: str, default: Any = None) -> Any:
        return {"current_user": "alice"}.get(name, default)


class Slotted:
    __slots__ = ("current_user",)

    def __init__(self) -> None:
        self.current_user = "alice"

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)


@pytest.mark.parametrize("globals_class", [Lent, Slotted, lambda: SimpleNamespace(current_user="alice")])
def test_the_user_is_found_in_globals_of_the_apps_own_class(globals_class: Any) -> None:
    app = Flask("shop")
    app.app_ctx_globals_class = globals_class
    with app.app_context():
        assert make_user_reader(Config())() == "alice"


@pytest.fixture
def login_app() -> Flask:
    """An app with the real Flask-Login, and views that tell what the reader sees."""
    app = Flask("shop")
    app.secret_key = "for tests"
    manager = flask_login.LoginManager(app)
    # Its hook for the "remember me" cookie reads the session of every request, which would hide whether we do.
    app.after_request_funcs.clear()
    app.extensions["loads"] = []
    read_user = make_user_reader(Config())

    @manager.user_loader
    def load(id: str) -> Member:  # noqa: A002
        app.extensions["loads"].append(id)
        return Member(id)

    @app.get("/login")
    def login() -> dict[str, str | None]:
        flask_login.login_user(Member("alice"))
        return {"user": read_user()}

    @app.get("/logout")
    def logout() -> dict[str, str | None]:
        flask_login.logout_user()
        return {"user": read_user()}

    @app.get("/unloaded")
    def unloaded() -> dict[str, str | None]:
        return {"user": read_user()}

    @app.get("/loaded")
    def loaded() -> dict[str, str | None]:
        assert flask_login.current_user.is_active in {True, False}
        return {"user": read_user()}

    @app.get("/proxied")
    def proxied() -> dict[str, str | None]:
        g.current_user = flask_login.current_user
        return {"user": read_user()}

    return app


def test_a_user_that_flask_login_has_loaded_is_found(login_app: Flask) -> None:
    client = login_app.test_client()
    assert client.get("/loaded").json == {"user": None}
    assert client.get("/login").json == {"user": "alice"}
    assert client.get("/loaded").json == {"user": "alice"}
    assert client.get("/logout").json == {"user": None}


@pytest.mark.parametrize("path", ["/unloaded", "/proxied"])
def test_a_user_that_flask_login_has_not_loaded_is_never_loaded(login_app: Flask, path: str) -> None:
    client = login_app.test_client()
    client.get("/login")
    login_app.extensions["loads"].clear()
    response = client.get(path)
    assert response.json == {"user": None}
    assert login_app.extensions["loads"] == []
    assert "Cookie" not in response.vary


def test_flask_login_still_keeps_its_user_under_that_name(login_app: Flask) -> None:
    with login_app.test_request_context():
        flask_login.login_user(Member("alice"))
        assert g.get(LOADED_LOGIN_USER).get_id() == "alice"


def test_reading_the_user_adds_no_vary_cookie() -> None:
    app = Flask("shop")
    app.secret_key = "for tests"
    read_user = make_user_reader(Config())

    @app.get("/dashboard")
    def dashboard() -> dict[str, str | None]:
        g.current_user = "alice"
        return {"user": read_user()}

    @app.get("/touched")
    def touched() -> str:
        return str(session.get("user"))

    client = app.test_client()
    assert client.get("/dashboard").json == {"user": "alice"}
    assert "Cookie" not in client.get("/dashboard").vary
    assert "Cookie" in client.get("/touched").vary
