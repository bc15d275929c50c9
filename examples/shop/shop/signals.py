"""The shop's own signals, and what its observability makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blinker import Namespace
from flask import current_app

from flask_signal_observability import annotate

if TYPE_CHECKING:
    from flask import Flask

    from .models import Order
    from .models import Product

__all__ = ["order_paid", "stock_low"]

shop_signals = Namespace()
order_paid = shop_signals.signal("order-paid")
"""Sent by the app with ``order`` once its payment is stored."""
stock_low = shop_signals.signal("stock-low")
"""Sent by the app with ``product`` when few are left on the shelf."""


@order_paid.connect
def tell_of_order(_sender: Flask, order: Order) -> None:
    annotate(**{"order.id": order.id, "order.total_cents": order.total_cents, "order.currency": order.currency})


@stock_low.connect
def tell_of_stock(_sender: Flask, product: Product) -> None:
    annotate(**{"stock.low": product.sku})
    current_app.logger.warning("%s is running low: %d left", product.sku, product.stock)
