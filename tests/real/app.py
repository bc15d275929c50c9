"""An app with one view for each kind of request, observed by one line; served by gunicorn in these tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import flash
from flask import Flask
from flask import g
from flask import redirect
from flask import render_template
from flask import request
from flask import Response
from jinja2 import DictLoader

from flask_signal_observability import access_logged
from flask_signal_observability import Observability

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["create_app"]

TEMPLATES = {
    "base.html": "<title>{% block title %}{% endblock %}</title>",
    "page.html": "{% extends 'base.html' %}{% block title %}Page {{ number }}{% endblock %}",
}


def create_app() -> Flask:
    app = Flask("shop")
    app.secret_key = "of these tests only"
    app.jinja_loader = DictLoader(TEMPLATES)
    Observability(app, audit_requests=True)
    _add_views(app)
    _add_seed(app)
    return app


def _add_views(app: Flask) -> None:
    @app.get("/json")
    def json_answer() -> dict[str, str]:
        return {"status": "active"}

    @app.get("/read-only")
    def read_only() -> str:
        return "not to be posted to"

    @app.get("/error")
    def error() -> str:
        raise LookupError("nothing there")

    @app.get("/orders/")
    def orders() -> str:
        return "reached with a slash"

    @app.get("/moved")
    def moved() -> Response:
        return redirect("/json")  # type: ignore[return-value]

    @app.get("/page/<int:number>")
    def page(number: int) -> str:
        return render_template("page.html", number=number)

    @app.get("/flashed")
    def flashed() -> str:
        flash("saved", "success")
        return "flashed"

    @app.get("/streamed")
    def streamed() -> Response:
        return Response(_chunks(), mimetype="text/plain")


def _chunks() -> Iterator[str]:
    for number in range(3):
        time.sleep(0.03)
        yield f"chunk {number}\n"


def _add_seed(app: Flask) -> None:
    @app.route("/dashboard")
    def dashboard() -> dict[str, str]:
        g.current_user = request.args.get("user", "guest")
        access_logged.send("dashboard_module")
        return {"status": "active", "user": g.current_user}

    @app.route("/compute")
    def compute() -> dict[str, float]:
        result = 10 / 0
        return {"result": result}
