"""Looking around: the front page, products, search, recommendations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import abort
from flask import Blueprint
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from sqlalchemy import select

from .database import session
from .models import Product

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

__all__ = ["blueprint", "find_product"]

blueprint = Blueprint("catalog", __name__)

PRODUCTS_A_PAGE = 12
SEARCH_SECONDS = 0.3


def find_product(sku: str) -> Product:
    """Return the product, or end the request with a 404."""
    return session().get(Product, sku) or abort(404, f"there is no product {sku!r}")


@blueprint.get("/")
def home() -> str:
    newest = session().scalars(select(Product).order_by(Product.price_cents.desc()).limit(6)).all()
    return render_template("catalog/home.html", products=newest)


@blueprint.get("/products/")
def products() -> str:
    page = int(request.args.get("page", 1))  # a page that is no number is a ValueError: see errors.py
    query = select(Product).order_by(Product.sku).limit(PRODUCTS_A_PAGE).offset(PRODUCTS_A_PAGE * (page - 1))
    if category := request.args.get("category"):
        query = query.where(Product.category == category)
    return render_template("catalog/products.html", products=session().scalars(query).all(), page=page)


@blueprint.get("/products/<sku>")
def product(sku: str) -> str:
    chosen = find_product(sku)
    related = session().scalars(select(Product).where(Product.category == chosen.category).limit(4)).all()
    return render_template("catalog/product.html", product=chosen, related=related)


@blueprint.get("/search")
def search() -> str:
    """The shop's slow page: every team has one."""
    words = request.args.get("q", "")
    time.sleep(SEARCH_SECONDS)
    found = session().scalars(select(Product).where(Product.name.icontains(words))).all()
    return render_template("catalog/products.html", products=found, page=1)


@blueprint.get("/recommendations/<sku>")
def recommendations(sku: str) -> str:
    """What others rated as well; a product without ratings divides by zero, and nobody has noticed yet."""
    chosen = find_product(sku)
    score = chosen.rating_sum / chosen.rating_count
    query = select(Product).where(Product.rating_sum >= score * Product.rating_count, Product.sku != sku).limit(4)
    return render_template("catalog/recommendations.html", product=chosen, products=session().scalars(query).all())


@blueprint.get("/shop/<path:old>")
def moved(old: str) -> Response:
    """The addresses of last year's shop."""
    return redirect(url_for("catalog.product", sku=old), 301)
