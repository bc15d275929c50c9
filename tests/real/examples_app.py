"""The programs of ``examples/`` as they are, side by side in one process: the seed's three, and the shop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def create_app() -> Flask:
    sys.path[:0] = [str(EXAMPLES / "seed"), str(EXAMPLES / "shop")]
    import application
    import exception_journal
    import shop
    import user_action

    seed = {f"/{program.__name__}": program.app for program in (application, exception_journal, user_action)}
    app: Flask = shop.create_app()
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, seed)  # type: ignore[method-assign]
    return app
