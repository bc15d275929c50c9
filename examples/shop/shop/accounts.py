"""Who is shopping: a name in the session, told to the rest of the app as ``g.current_user``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import abort
from flask import Blueprint
from flask import flash
from flask import g
from flask import redirect
from flask import render_template
from flask import request
from flask import session as cookie
from flask import url_for
from sqlalchemy import select

from .database import session
from .models import Order

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

__all__ = ["blueprint"]

blueprint = Blueprint("accounts", __name__, url_prefix="/accounts")


@blueprint.before_app_request
def recognise() -> None:
    if "user" in cookie:
        g.current_user = cookie["user"]


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | Response:
    if request.method == "GET":
        return render_template("accounts/sign_in.html")
    name = request.form.get("name", "").strip()
    if not name.isidentifier():
        raise ValueError("a name is made of letters, digits and underscores")
    cookie["user"] = g.current_user = name
    flash(f"Welcome, {name}.", "success")
    return redirect(url_for("catalog.home"), 303)


@blueprint.get("/orders")
def orders() -> str:
    if "current_user" not in g:
        abort(401, "sign in to see your orders")
    placed = session().scalars(select(Order).where(Order.customer == g.current_user).order_by(Order.id)).all()
    return render_template("accounts/orders.html", orders=placed)
