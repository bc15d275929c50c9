"""What the load balancer asks."""

from __future__ import annotations

from flask import Blueprint
from sqlalchemy import text

from flask_signal_observability import exempt

from .database import session

__all__ = ["blueprint"]

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
@exempt
def healthy() -> dict[str, str]:
    session().execute(text("SELECT 1"))
    return {"status": "ok"}
