"""An app with one view for each way in which a request sends signals, observed or bare."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from typing import Any
from typing import TYPE_CHECKING

import flask
from blinker import NamedSignal
from flask import Flask
from flask.sessions import SecureCookieSession
from flask.sessions import SessionInterface
from jinja2 import DictLoader
from opentelemetry import context as otel_context
from werkzeug.test import create_environ

from flask_signal_observability.record import current_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

REQUEST_ID = "X-Request-ID"
SHAPES = (
    *("json", "template", "string_template", "flash", "missing", "redirect", "broken", "handled", "stream", "chunks"),
    *("broken_chunks", "early", "teardown", "watched", "audited", "annotated", "excluded", "head", "cookie"),
)
"""What a request does; each is a path of :func:`site`, ``missing`` is none."""

Answer = tuple[Any, ...]


class Forgetful(SessionInterface):
    """Has sessions and stores none: a signed cookie would tell the second in which it was made."""

    def open_session(self, app: Flask, request: flask.Request) -> SecureCookieSession:
        return SecureCookieSession()

    def save_session(self, app: Flask, session: Any, response: flask.Response) -> None:
        pass


class Known(Exception):
    """Answered by an error handler."""


class Late(Exception):
    """Raised after the answer."""


@dataclasses.dataclass
class Site:
    """The app, and what its views let others have."""

    app: Flask
    paid: NamedSignal = dataclasses.field(default_factory=lambda: NamedSignal("paid"))
    began: NamedSignal = dataclasses.field(default_factory=lambda: NamedSignal("began"))
    payload: Callable[[], dict[str, Any]] = lambda: {"amount": 3, "currency": "EUR"}
    sender: Callable[[], Any] = lambda: "till"
    error: Callable[[], BaseException] = ZeroDivisionError
    audited: Callable[[Any, dict[str, Any]], object] = lambda sender, payload: None
    annotated: Callable[[dict[str, Any]], object] = lambda payload: None


def site() -> Site:
    app = Flask("abused")
    made = Site(app)
    app.secret_key = "k"
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True
    app.session_interface = Forgetful()
    app.jinja_loader = DictLoader({"page.html": "<p>{{ 1 + 1 }}</p>"})
    for name in ("json", "template", "string_template", "flash", "redirect", "broken", "handled", "stream", "chunks"):
        app.add_url_rule(f"/{name}", name, VIEWS[name])
    app.add_url_rule("/broken_chunks", "broken_chunks", lambda: flask.Response(broken_chunks()))
    for name in ("early", "teardown", "excluded", "head"):
        app.add_url_rule(f"/{name}", name, lambda: "ok")
    app.add_url_rule("/cookie", "cookie", with_cookie)
    app.before_request(lambda: "too early" if flask.request.path == "/early" else None)
    app.teardown_request(fail_late)
    app.register_error_handler(Known, lambda _: ("sorry", 409))
    add_signals(made)
    return made


def add_signals(made: Site) -> None:
    @made.app.get("/watched")
    def watched() -> str:
        sender = made.sender()
        made.began.send(sender)
        made.paid.send(sender, **made.payload())
        return "paid"

    @made.app.get("/audited")
    def audited() -> str:
        made.audited(made.sender(), made.payload())
        return "told"

    @made.app.get("/annotated")
    def annotated() -> str:
        made.annotated(made.payload())
        raise made.error()


def with_cookie() -> flask.Response:
    response = flask.make_response("ok")
    response.set_cookie("a", "b")
    response.headers.add("Vary", "Accept")
    return response


def flashes() -> str:
    flask.flash("hello", "info")
    return "ok"


def handled() -> str:
    raise Known


def chunks() -> Iterator[str]:
    yield "a"
    yield "b"


def broken_chunks() -> Iterator[str]:
    yield "a"
    raise Late


def fail_late(error: BaseException | None) -> None:
    if flask.request.path == "/teardown":
        raise Late


VIEWS: dict[str, Callable[[], Any]] = {
    "json": lambda: {"a": [1, 2, 3]},
    "template": lambda: flask.render_template("page.html"),
    "string_template": lambda: flask.render_template_string("{{ 1 }}"),
    "flash": flashes,
    "redirect": lambda: flask.redirect("/json"),
    "broken": lambda: str(1 // 0),
    "handled": handled,
    "stream": lambda: flask.stream_template_string("{% for n in [1, 2] %}{{ n }}{% endfor %}"),
    "chunks": lambda: flask.Response(flask.stream_with_context(chunks())),
}


def answer(app: Flask, shape: str) -> Answer:
    """Return what a server would send for one request: status, headers and body, or what it would be raised.

    Nothing of the request is current any more when it is over.
    """
    before = otel_context.get_current()
    environ = create_environ(f"/{shape}", method="HEAD" if shape == "head" else "GET")
    given = serve(app, environ)
    assert current_record.get() is None, shape
    assert otel_context.get_current() is before, shape
    if flask.has_app_context() and isinstance(given[-1], type):
        gc.collect()  # tests/abuse/test_fault_matrix.py shows that Flask 3.0 leaves this to the collector
    assert not flask.has_app_context(), shape
    return given


def serve(app: Flask, environ: dict[str, Any]) -> Answer:
    """Be the server of one request."""
    given: list[Any] = []
    sent = b""

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        given[:] = [status, [header for header in headers if header[0] != REQUEST_ID]]
        return lambda data: None

    try:
        body = app(environ, start_response)
        with contextlib.closing(body) if hasattr(body, "close") else contextlib.nullcontext():  # type: ignore[type-var]
            for chunk in body:
                sent += chunk
    except BaseException as error:
        return (*given, sent, type(error))
    return (*given, sent)
