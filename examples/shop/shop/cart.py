"""The cart: quantities by product, kept in the visitor's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint
from flask import flash
from flask import redirect
from flask import render_template
from flask import request
from flask import session as cookie
from flask import url_for
from sqlalchemy import select

from .catalog import find_product
from .database import session
from .models import Product

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

__all__ = ["blueprint", "contents"]

blueprint = Blueprint("cart", __name__, url_prefix="/cart")


def contents() -> list[tuple[Product, int]]:
    """Return the products in the visitor's cart with their quantities."""
    quantities: dict[str, int] = cookie.get("cart", {})
    if not quantities:
        return []
    chosen = session().scalars(select(Product).where(Product.sku.in_(quantities)).order_by(Product.sku))
    return [(product, quantities[product.sku]) for product in chosen]


@blueprint.get("/")
def show() -> str:
    lines = contents()
    total_cents = sum(product.price_cents * quantity for product, quantity in lines)
    return render_template("cart/show.html", lines=lines, total_cents=total_cents)


@blueprint.post("/<sku>")
def add(sku: str) -> Response:
    quantity = int(request.form.get("quantity", 1))
    if quantity < 1:
        raise ValueError(f"a cart cannot hold {quantity} of {sku}")
    product = find_product(sku)
    quantities = cookie.get("cart", {})
    cookie["cart"] = {**quantities, sku: quantities.get(sku, 0) + quantity}
    flash(f"{product.name} is in your cart.", "success")
    return redirect(url_for("cart.show"), 303)
