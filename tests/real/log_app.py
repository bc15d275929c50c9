"""An app that logs in every way there is, to the one stream of its records."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import TYPE_CHECKING

import structlog
from flask import Flask

from flask_signal_observability import add_request_context
from flask_signal_observability import configure_logging
from flask_signal_observability import Observability

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["create_app"]


def create_app() -> Flask:
    app = Flask("shop")
    Observability(app, audit=False)
    configure_logging(app)
    warnings.simplefilter("always")
    own_chain = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), [add_request_context, structlog.processors.JSONRenderer()]
    )

    @app.get("/json")
    def looked_at() -> dict[str, int]:
        structlog.get_logger("shop.orders").info("by structlog", number=7)
        logging.getLogger("shop.stock").warning("by %s", "logging")
        warnings.warn("by warnings", stacklevel=1)
        own_chain.info("by a chain of its own")
        return {"number": 7}

    @app.get("/broken")
    def broken() -> Iterator[str]:
        yield "half"
        raise LookupError("half-way")

    @app.get("/asleep")
    def asleep() -> str:
        time.sleep(60)
        return "too late"

    return app
