"""An app whose views can be held up until a file is there, with the metrics port that its caller names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flask import Flask
from prometheus_client import Counter

from flask_signal_observability import Observability

__all__ = ["create_app"]


def create_app(**settings: Any) -> Flask:
    app = Flask("shop")
    Observability(app, tracing=False, logs=False, audit=False, **settings)
    sold = Counter("sold", "Things sold.")

    @app.get("/")
    def home() -> str:
        sold.inc()
        return "hello"

    @app.get("/held")
    def held() -> str:
        Path(f"held-{os.getpid()}").touch()
        while not Path("release").exists():
            time.sleep(0.05)
        return "released"

    return app
