"""A shop as a team would write it: blueprints, templates, SQLite, signals, and one line of observability.

From the directory above: ``flask --app shop run`` or ``gunicorn 'shop:create_app()'``.
"""

from __future__ import annotations

import os
from typing import Any
from typing import TYPE_CHECKING

from flask import Flask

from flask_signal_observability import Observability

from . import accounts
from . import api
from . import cart
from . import catalog
from . import checkout
from . import database
from . import errors
from . import operations
from . import reports
from . import shipping
from . import signals

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["create_app"]


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return a shop that is ready to serve: its tables exist and its shelves are filled.

    Settings come from ``config``, else from the environment (``SHOP_DATABASE``, ``SHOP_SECRET_KEY``).
    """
    app = Flask(__name__)
    app.config["SHOP_DATABASE"] = os.environ.get("SHOP_DATABASE", "shop.sqlite3")
    app.config["SECRET_KEY"] = os.environ.get("SHOP_SECRET_KEY", "for the demonstration only")
    app.config.update(config or {})

    observability = Observability(app, service_name="shop", audit_requests=True)
    signals.watch(observability)

    database.init_app(app)
    errors.init_app(app)
    for room in (accounts, api, cart, catalog, checkout, operations, reports, shipping):
        app.register_blueprint(room.blueprint)
    return app
