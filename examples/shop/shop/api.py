"""The catalogue as JSON."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from sqlalchemy import select

from .catalog import find_product
from .database import session
from .models import Product

__all__ = ["blueprint"]

blueprint = Blueprint("api", __name__, url_prefix="/api")


def as_json(product: Product) -> dict[str, Any]:
    return {
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
        "price": {"cents": product.price_cents, "currency": "EUR"},
        "in_stock": product.stock > 0,
    }


@blueprint.get("/products")
def products() -> dict[str, Any]:
    return {"products": [as_json(product) for product in session().scalars(select(Product).order_by(Product.sku))]}


@blueprint.get("/products/<sku>")
def product(sku: str) -> dict[str, Any]:
    return as_json(find_product(sku))
