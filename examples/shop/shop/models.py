"""What the shop keeps: products, orders and their lines. Money is in cents."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - SQLAlchemy reads the annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship

__all__ = ["Base", "Order", "OrderLine", "Product", "opening_stock"]

CATEGORIES = {"teapot": 3400, "kettle": 5900, "lamp": 8900, "mug": 1400, "notebook": 900, "backpack": 7400}
MAKES = ("blue", "copper", "oak", "linen", "enamel", "glass")


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"

    sku: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    category: Mapped[str] = mapped_column(index=True)
    price_cents: Mapped[int]
    stock: Mapped[int]
    rating_sum: Mapped[int] = mapped_column(default=0)
    rating_count: Mapped[int] = mapped_column(default=0)


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total_cents: Mapped[int]
    currency: Mapped[str] = mapped_column(default="EUR")
    paid_at: Mapped[datetime]
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order")


class OrderLine(Base):
    __tablename__ = "order_lines"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey("products.sku"), primary_key=True)
    quantity: Mapped[int]
    price_cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


def opening_stock() -> list[Product]:
    """Return the 37 products of a new shop; the gift card is the one that nobody has rated yet."""
    products = [
        Product(
            sku=f"{make}-{category}",
            name=f"{make} {category}".capitalize(),
            category=category,
            price_cents=price_cents + 100 * number,
            stock=8,
            rating_sum=40 - number,
            rating_count=9,
        )
        for category, price_cents in CATEGORIES.items()
        for number, make in enumerate(MAKES)
    ]
    products.append(Product(sku="gift-card", name="Gift card", category="gift", price_cents=2500, stock=500))
    return products
