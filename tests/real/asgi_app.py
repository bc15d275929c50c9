"""The app of these tests behind asgiref's WsgiToAsgi, for an ASGI server."""

from __future__ import annotations

from typing import Any

from app import create_app as create_wsgi_app  # type: ignore[import-not-found]
from asgiref.wsgi import WsgiToAsgi

__all__ = ["create_app"]


def create_app() -> Any:
    return WsgiToAsgi(create_wsgi_app())
