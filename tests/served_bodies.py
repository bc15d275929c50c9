"""An app with a body of every shape, for a real gunicorn: the same with and without the extension."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import flask
from flask import Flask

from flask_signal_observability import Observability

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

__all__ = ["FILE", "create_app"]

FILE = Path(__file__)

PAUSE_SECONDS = 0.1


def create_app(*, observed: bool = True) -> Flask:
    """Make the app; ``X-File-Wrapper`` tells whether the server's own wrapper reaches it."""
    app = Flask("bodies", static_folder=None)
    app.add_url_rule("/file", view_func=lambda: flask.send_file(FILE, etag="v1"), endpoint="file")
    app.add_url_rule("/list", view_func=lambda: flask.Response(["one", "two"]), endpoint="list")
    app.add_url_rule("/stream", view_func=lambda: flask.Response(chunks()), endpoint="stream")
    app.add_url_rule("/sized", view_func=sized)
    app.add_url_rule("/passed-through", view_func=passed_through)
    app.wsgi_app = Extra(app.wsgi_app)  # type: ignore[method-assign]
    if observed:
        Observability(app)
    app.wsgi_app = tell_wrapper(app.wsgi_app)  # type: ignore[method-assign]
    return app


def bare_app() -> Flask:
    return create_app(observed=False)


def chunks() -> Iterator[bytes]:
    for chunk in (b"a", b"b", b"c"):
        time.sleep(PAUSE_SECONDS)
        yield chunk


def sized() -> flask.Response:
    return flask.Response(chunks(), headers={"Content-Length": "3"})


def passed_through() -> flask.Response:
    return flask.Response(chunks(), direct_passthrough=True)


class Extra:
    """Answers ``/extra/…`` without Flask, in the ways that PEP 3333 leaves to an app."""

    def __init__(self, wsgi_app: Callable[..., Any]) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        kind = environ["PATH_INFO"].removeprefix("/extra/")
        if kind == "written":
            write = start_response("200 OK", [("Content-Length", "6")])
            write(b"abc")
            write(b"def")
            return []
        if kind == "bare-list":
            start_response("200 OK", [("Content-Length", "2")])
            return [b"o", b"k"]
        return self._wsgi_app(environ, start_response)


def tell_wrapper(wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
    def tell(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        answered: list[Any] = []
        if environ["PATH_INFO"] != "/file":
            return wsgi_app(environ, start_response)
        body = wsgi_app(environ, lambda *answer: answered.append(answer))
        (status, headers), is_file = answered[0], isinstance(body, environ["wsgi.file_wrapper"])
        start_response(status, [*headers, ("X-File-Wrapper", str(is_file))])
        return body

    return tell
