"""The ways in which a request is made: as a server does it, as a client that leaves, with Flask's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from .signals import Recorder

Serve = Callable[[Flask, Recorder, str, str], None]


def call(app: Flask, path: str, method: str) -> Any:
    """Call the app, and return its body unread."""
    return app(create_environ(path, method=method), lambda *_: lambda _: None)


def as_a_server(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    """Read the body to its end, and close it whatever happens."""
    body = call(app, path, method)
    try:
        for _ in body:
            recorder.note("chunks")
    finally:
        close(body)


def for_a_client_that_leaves(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    """Read one chunk, and close."""
    body = call(app, path, method)
    next(iter(body))
    recorder.note("chunks")
    close(body)


def without_reading(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    """Close a body of which nothing was read."""
    close(call(app, path, method))


def without_reading_or_closing(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    """Drop a body, as a client does that looks at the status only."""
    call(app, path, method)


def inside_an_app_context(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    with app.app_context():
        recorder.note("(")
        as_a_server(app, recorder, path, method)
        recorder.note(")")


def with_the_test_client(app: Flask, recorder: Recorder, path: str, method: str) -> None:
    """Make the request in a ``with`` block, so that its context is kept for the test."""
    with app.test_client() as client:
        client.open(path, method=method)


def close(body: Any) -> None:
    if hasattr(body, "close"):
        body.close()
