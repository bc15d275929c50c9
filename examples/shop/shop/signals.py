"""The shop's own signals, and what becomes of them: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blinker import Namespace

from flask_signal_observability import annotate

if TYPE_CHECKING:
    from flask import Flask

    from flask_signal_observability import Observability

    from .models import Order
    from .models import Product

__all__ = ["order_paid", "stock_low", "watch"]

shop_signals = Namespace()
order_paid = shop_signals.signal("order-paid")
"""Sent by the app with ``order`` once its payment is stored."""
stock_low = shop_signals.signal("stock-low")
"""Sent by the app with ``product`` when few are left on the shelf."""


def watch(observability: Observability) -> None:
    """Say what becomes of them."""
    observability.watch(
        order_paid,
        count="shop_orders_paid_total",
        labels={"order.currency": ("EUR", "USD")},
        measure="shop_order_value_cents",
        value="order.total_cents",
        buckets=(1_000, 5_000, 10_000, 50_000, 100_000),
        span_event="order.paid",
        log="info",
        fields=("order.id", "order.total_cents", "order.currency"),
    )
    observability.watch(
        stock_low,
        count="shop_stock_low_total",
        span_event="stock.low",
        log="warning",
        audit="{user}@{ip} left {product.stock} of {product.sku}",
        fields=("product.sku", "product.stock"),
    )


@order_paid.connect
def tell_of_order(_sender: Flask, order: Order) -> None:
    annotate(**{"order.id": order.id, "order.total_cents": order.total_cents, "order.currency": order.currency})


@stock_low.connect
def tell_of_stock(_sender: Flask, product: Product) -> None:
    annotate(**{"stock.low": product.sku})
