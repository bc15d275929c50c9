"""The app that every stack observes: one view for each thing that a request may do."""

from __future__ import annotations

import logging
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from flask import Flask
from flask import render_template
from jinja2 import DictLoader
from stacks import STACKS
from werkzeug.test import create_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VIEWS", "make_app", "serve"]

ORDER = "<h1>Order {{ number }}</h1><ul>{% for name in names %}<li>{{ name }}</li>{% endfor %}</ul>"
NAMES = [f"thing {number}" for number in range(20)]
CHUNKS = 10


class View(NamedTuple):
    """What is asked for, and the status that it must be answered with."""

    path: str
    status: int
    does: str


VIEWS = {
    "json": View("/api/item/{}", 200, "a small dict as JSON"),
    "template": View("/order/{}", 200, "a template with twenty rows"),
    "404": View("/nothing/{}", 404, "a path that no rule matches"),
    "500": View("/broken/{}", 500, "a view that raises"),
    "streamed": View("/export/{}", 200, f"a generator of {CHUNKS} chunks"),
}


def make_app(stack: str) -> Flask:
    """Return the app, observed by this stack; it writes its files into the current directory."""
    app = Flask("shop")
    app.jinja_env.loader = DictLoader({"order.html": ORDER})
    # Before app.logger is first used: where it finds no handler, Flask writes to standard error.
    logging.getLogger(app.name).addHandler(logging.FileHandler("app.log", delay=True))

    @app.get("/api/item/<int:number>")
    def item(number: int) -> dict[str, Any]:
        return {"id": number, "name": "thing", "price": 12.5}

    @app.get("/order/<int:number>")
    def order(number: int) -> str:
        return render_template("order.html", number=number, names=NAMES)

    @app.get("/broken/<int:number>")
    def broken(number: int) -> str:
        return str(number / 0)

    @app.get("/export/<int:number>")
    def export(number: int) -> Iterator[str]:
        return (f"{number},{chunk}\n" for chunk in range(CHUNKS))

    STACKS[stack].install(app)
    return app


def serve(app: Flask, view: str, requests: int) -> None:
    """Serve so many requests as a server would, each for a path of its own."""
    path, status, _ = VIEWS[view]
    peer = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "50000"}
    environ = create_environ("/", headers={"User-Agent": "benchmark/1"}, environ_base=peer)
    sent = ""

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Any:
        nonlocal sent
        sent = status
        return bytes

    for number in range(requests):
        body = app({**environ, "PATH_INFO": path.format(number)}, start_response)
        for _ in body:
            pass
        body.close()  # type: ignore[attr-defined]
        if not sent.startswith(str(status)):
            raise RuntimeError(f"{path.format(number)} was answered with {sent!r}, not {status}: nothing is measured")
