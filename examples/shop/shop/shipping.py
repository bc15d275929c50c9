"""What sending costs: two carriers are asked at the same time, in an async view."""

from __future__ import annotations

import asyncio

from flask import abort
from flask import Blueprint
from flask import render_template

__all__ = ["blueprint"]

blueprint = Blueprint("shipping", __name__, url_prefix="/shipping")

ZONES = {"at": 1, "de": 1, "fr": 2, "it": 2, "jp": 4, "us": 4}


async def ask(carrier: str, zone: int, *, answers_in_seconds: float) -> tuple[str, int]:
    await asyncio.sleep(answers_in_seconds)
    return carrier, 490 * zone + 10 * len(carrier)


@blueprint.get("/<country>")
async def quote(country: str) -> str:
    if country not in ZONES:
        abort(404, f"we do not send to {country!r}")
    quotes = await asyncio.gather(
        ask("Parcel & Sons", ZONES[country], answers_in_seconds=0.02),
        ask("Swift Post", ZONES[country], answers_in_seconds=0.03),
    )
    return render_template("shipping/quote.html", country=country, quotes=quotes)
