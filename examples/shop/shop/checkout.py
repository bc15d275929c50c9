"""Paying: the cart becomes an order, and the shop's signals tell whoever wants to know."""

from __future__ import annotations

from datetime import datetime
from datetime import timezone
from typing import Any
from typing import TYPE_CHECKING

from flask import abort
from flask import Blueprint
from flask import current_app
from flask import flash
from flask import g
from flask import redirect
from flask import render_template
from flask import session as cookie
from flask import url_for

from flask_signal_observability import access_logged

from .cart import contents
from .database import session
from .models import Order
from .models import OrderLine
from .models import Product
from .signals import order_paid
from .signals import stock_low

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

__all__ = ["blueprint"]

blueprint = Blueprint("checkout", __name__, url_prefix="/checkout")

LOW_STOCK = 3


@blueprint.post("/")
def pay() -> Response:
    access_logged.send("checkout")
    lines = contents()
    if not lines:
        flash("Your cart is empty.", "warning")
        return redirect(url_for("cart.show"), 303)
    order = place_order(lines)
    cookie.pop("cart")
    app: Any = current_app
    order_paid.send(app._get_current_object(), order=order)
    for product, _ in lines:
        if product.stock <= LOW_STOCK:
            stock_low.send(app._get_current_object(), product=product)
    receipt = render_template("mail/receipt.txt", order=order)
    current_app.logger.debug("receipt of %d bytes mailed", len(receipt))
    flash(f"Thank you! Order {order.id} is paid.", "success")
    return redirect(url_for("checkout.order", order_id=order.id), 303)


def place_order(lines: list[tuple[Product, int]]) -> Order:
    """Take the products off the shelf and store the order; ValueError where the shelf holds too few."""
    for product, quantity in lines:
        if product.stock < quantity:
            raise ValueError(f"only {product.stock} of {product.sku} are left")
        product.stock -= quantity
    order = Order(
        customer=g.get("current_user", "guest"),
        total_cents=sum(product.price_cents * quantity for product, quantity in lines),
        paid_at=datetime.now(timezone.utc),
        lines=[OrderLine(product=p, quantity=quantity, price_cents=p.price_cents) for p, quantity in lines],
    )
    session().add(order)
    session().commit()
    return order


@blueprint.get("/orders/<int:order_id>")
def order(order_id: int) -> str:
    placed = session().get(Order, order_id)
    if placed is None or placed.customer != g.get("current_user", "guest"):
        abort(404, f"you have no order {order_id}")
    return render_template("checkout/order.html", order=placed)
