"""The app of the soak: one view for each way that a request can go; observed with all outputs on, or bare."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flask import abort
from flask import Flask
from flask import render_template_string
from flask import request
from flask import Response

from flask_signal_observability import access_logged
from flask_signal_observability import configure_logging
from flask_signal_observability import Observability

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["create_app", "create_bare_app"]


def create_app() -> Flask:
    app = create_bare_app()
    Observability(app, audit_requests=True, audit_format="json")
    configure_logging(app)
    return app


def create_bare_app() -> Flask:
    app = Flask("soak")
    app.logger.disabled = True  # its line about an error is not ours to count
    app.add_url_rule("/", "home", lambda: {"status": "active"})
    app.add_url_rule("/item/<int:number>", "item", lambda number: {"number": number})
    app.add_url_rule("/page/<int:number>", "page", page)
    app.add_url_rule("/error", "error", lambda: {}["nothing there"])
    app.add_url_rule("/refused", "refused", lambda: abort(403))
    app.add_url_rule("/posted", "posted", lambda: {"length": len(request.get_data())}, methods=["POST"])
    app.add_url_rule("/streamed", "streamed", lambda: Response(chunks(4, 0.01), mimetype="text/plain"))
    app.add_url_rule("/endless", "endless", lambda: Response(chunks(400, 0.005), mimetype="text/plain"))
    app.add_url_rule("/broken", "broken", lambda: Response(broken(), mimetype="text/plain"))
    app.add_url_rule("/seen", "seen", seen)

    @app.after_request
    def tell_worker(response: Response) -> Response:
        response.headers["Worker"] = str(os.getpid())
        return response

    return app


def page(number: int) -> str:
    return render_template_string("<p>{% for n in range(20) %}{{ n * number }} {% endfor %}</p>", number=number)


def seen() -> str:
    access_logged.send("seen", action="looked")
    return "seen"


def chunks(count: int, pause_seconds: float) -> Iterator[str]:
    for number in range(count):
        time.sleep(pause_seconds)
        yield f"{number}" * 1000 + "\n"


def broken() -> Iterator[str]:
    yield "the first half\n"
    raise LookupError("the other half is not there")
