"""The shop's answers to what goes wrong."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask import render_template
from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import InternalServerError

__all__ = ["init_app"]


def init_app(app: Flask) -> None:
    """Answer with a page, or with JSON below /api; a ValueError is the visitor's mistake, not ours."""
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(InternalServerError, answer)
    app.register_error_handler(ValueError, bad_value)


def answer(error: HTTPException) -> tuple[Any, int, list[tuple[str, str]]]:
    status = error.code or 500
    headers = [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
    if request.path.startswith("/api/"):
        return {"error": error.name, "detail": error.description}, status, headers
    return render_template("errors/page.html", status=status, error=error), status, headers


def bad_value(error: ValueError) -> tuple[str, int]:
    return render_template("errors/bad_value.html", error=error), 400
