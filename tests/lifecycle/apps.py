"""One function for each scenario: it makes an app that behaves in this way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

Build = Callable[[Flask], None]


class Late(Exception):
    """Raised after the view has done its part."""


def view_of(view: Callable[[], Any]) -> Build:
    """An app with this one view."""
    return lambda app: app.add_url_rule("/", view_func=view, endpoint="view")


def both(*builds: Build) -> Build:
    def build(app: Flask) -> None:
        for one in builds:
            one(app)

    return build


def configured(**config: Any) -> Build:
    return lambda app: app.config.update(config)


def late(*_: Any) -> Any:
    raise Late


answers = view_of(lambda: "ok")
aborts = view_of(lambda: flask.abort(403))
divides = view_of(lambda: 1 // 0)
gives_none = view_of(lambda: None)


def redirects_to_the_slash(app: Flask) -> None:
    app.add_url_rule("/folder/", view_func=lambda: "ok", endpoint="view")


def has_a_static_file(app: Flask) -> None:
    app.static_folder = str(Path(__file__).parent)


def answers_before_the_view(app: Flask) -> None:
    divides(app)
    app.before_request(lambda: "early")


def handles_its_error(app: Flask) -> None:
    divides(app)
    app.register_error_handler(ZeroDivisionError, lambda _: ("sorry", 409))


def handles_every_error(app: Flask) -> None:
    divides(app)
    app.register_error_handler(Exception, lambda _: ("sorry", 503))


def fails_before_the_view(app: Flask) -> None:
    answers(app)
    app.before_request(late)


def fails_at_the_url_values(app: Flask) -> None:
    answers(app)
    app.url_value_preprocessor(late)


def fails_after_the_view(app: Flask) -> None:
    answers(app)
    app.after_request(late)


def fails_in_its_error_handler(app: Flask) -> None:
    divides(app)
    app.register_error_handler(500, late)


def exits(error: type[BaseException]) -> Build:
    def view() -> str:
        raise error

    return view_of(view)


def cannot_open_sessions(app: Flask) -> None:
    class Broken(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: flask.Request) -> Any:
            raise Late

    answers(app)
    app.session_interface = Broken()


def fails_at_request_teardown(app: Flask) -> None:
    answers(app)
    app.teardown_request(late)


def fails_at_context_teardown(app: Flask) -> None:
    answers(app)
    app.teardown_appcontext(late)


renders = view_of(lambda: flask.render_template_string("hello"))
fails_in_a_template = view_of(lambda: flask.render_template_string("{{ 1 // 0 }}"))
streams_a_template = view_of(lambda: flask.stream_template_string("{% for n in [1, 2] %}{{ n }}{% endfor %}"))


def chunks() -> Iterator[str]:
    yield "a"
    yield "b"


def broken_chunks() -> Iterator[str]:
    yield "a"
    raise Late


streams = view_of(chunks)
streams_and_fails = view_of(broken_chunks)
streams_in_its_context = view_of(lambda: flask.stream_with_context(chunks()))
streams_in_its_context_and_fails = view_of(lambda: flask.stream_with_context(broken_chunks()))


@view_of
def copies_its_context() -> str:
    return flask.copy_current_request_context(lambda: "ok")()


@view_of
def copies_its_context_to_a_thread() -> str:
    thread = threading.Thread(target=flask.copy_current_request_context(lambda: None))
    thread.start()
    thread.join()
    return "ok"


@view_of
def nests_a_request_context() -> str:
    with flask.current_app.test_request_context("/nested"):
        return "ok"


@view_of
def nests_an_app_context() -> str:
    with flask.current_app.app_context():
        return "ok"


def flashes(app: Flask) -> None:
    def view() -> str:
        flask.flash("hello", "info")
        return "ok"

    app.secret_key = "x"
    app.add_url_rule("/", view_func=view)
