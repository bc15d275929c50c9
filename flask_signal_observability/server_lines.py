"""What a server's own lines say of a request: without its query, without colours, and an access line's parts."""

from __future__ import annotations

import re
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .redaction import Redaction

__all__ = ["SERVER_LOGGERS", "access_fields", "masked_queries", "unstyled"]

SERVER_LOGGERS = frozenset({"werkzeug", "gunicorn.error", "gunicorn.access"})
"""Whose lines name the request with its query, as it was sent."""

# A blank ends a request's target. Other white space does not: Werkzeug decodes it, and it may stand within the query.
_QUERY = re.compile(r"\?([^ \t\r\n]+)")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
"""Colours and weights of a terminal: ECMA-48, 8.3.117 (SGR)."""


def masked_queries(text: str, redaction: Redaction | None) -> str:
    """Return a server's line with its queries masked; without them where ``redaction`` is None."""
    if "?" not in text:
        return text
    if redaction is None:
        return _QUERY.sub("", text)
    mask = redaction.mask_query
    return _QUERY.sub(lambda found: f"?{mask(found[1])}", text)


def unstyled(text: str) -> str:
    """Return ``text`` without the colours that Werkzeug's development server gives its lines on any stream."""
    return _STYLE.sub("", text) if "\x1b" in text else text


def access_fields(atoms: Mapping[str, Any], sent_id: str) -> dict[str, Any]:
    """Return what gunicorn knows of a request, by its names for the parts of an access log's line."""
    fields = {
        "request_id": atoms[sent_id],
        "http.request.method": atoms["m"],
        "url.path": atoms["U"],
        "http.response.status_code": int(status) if (status := str(atoms["s"])).isdecimal() else status,
        "client.address": atoms["h"],
        "user_agent.original": atoms["a"],
        "http.response.body.size": atoms["B"],
        "duration_seconds": float(atoms["L"]),
    }
    return {key: value for key, value in fields.items() if value not in ("-", "", None)}
