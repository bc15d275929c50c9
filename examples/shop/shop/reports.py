"""All orders as CSV, streamed while they are read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Blueprint
from flask import Response
from flask import stream_with_context
from sqlalchemy import select

from .database import session
from .models import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["blueprint"]

blueprint = Blueprint("reports", __name__, url_prefix="/reports")

PAUSE_SECONDS = 0.005


@blueprint.get("/orders.csv")
def orders() -> Response:
    return Response(stream_with_context(rows()), mimetype="text/csv")


def rows() -> Iterator[str]:
    yield "order,customer,total,currency,paid_at\n"
    for order in session().scalars(select(Order).order_by(Order.id).execution_options(yield_per=20)):
        time.sleep(PAUSE_SECONDS)
        yield f"{order.id},{order.customer},{order.total_cents / 100:.2f},{order.currency},{order.paid_at:%FT%TZ}\n"
