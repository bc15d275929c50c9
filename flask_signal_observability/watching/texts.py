"""The fields of an audit line: the payload's, and those of the request, which no payload replaces."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from ..origin import request_of
from ..origin import user_of
from ..redaction import MASK
from .fields import MISSING
from .fields import reader_of
from .fields import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pipeline import Pipeline
    from ..record import RequestRecord
    from ..redaction import Redaction
    from .template import AuditTemplate

    Payload = dict[str, Any]
    Text = Callable[[object, Payload, RequestRecord | None], str | None]
    Fill = Callable[[Payload, object, Payload, RequestRecord | None], str]

__all__ = ["OF_THE_REQUEST", "make_text"]

OF_THE_REQUEST = ("user", "ip", "path", "sender", "signal")
"""What a template may name beside the payload's fields."""


def make_text(template: AuditTemplate, name: str, pipeline: Pipeline, redaction: Redaction) -> Fill:
    """Return what fills the template; a field that cannot be read costs itself, and is counted."""
    call = pipeline.guard.call
    own = {field: _own_text(field, name, pipeline) for field in OF_THE_REQUEST}
    texts = [(field, own.get(field), _payload_text(field, name, redaction)) for field in template.names]
    fill = template.fill

    def text(fields: Payload, sender: object, payload: Payload, record: RequestRecord | None) -> str:
        # The hot path.
        values: list[str | None] = []
        for field, own_text, read in texts:
            if own_text is not None:
                values.append(own_text(sender, payload, record))
                continue
            known = fields.get(field)  # what the other outputs are told is clean already
            kind = type(known)
            if kind is str:
                values.append(known)
            elif kind is int or kind is float:
                values.append(repr(known))
            else:
                values.append(call("watch", "audit", read, sender, payload, record))
        return fill(values)

    return text


def _own_text(field: str, name: str, pipeline: Pipeline) -> Text:
    def user(_sender: object, _payload: Payload, record: RequestRecord | None) -> str | None:
        return user_of(pipeline, record) or "anonymous"

    def ip(_sender: object, _payload: Payload, record: RequestRecord | None) -> str | None:
        request = record if record is not None and record.path else request_of(pipeline, record)
        return None if request is None else request.client_address

    def path(_sender: object, _payload: Payload, record: RequestRecord | None) -> str | None:
        request = record if record is not None and record.path else request_of(pipeline, record)
        return None if request is None else request.path

    def sender(sender: object, _payload: Payload, _record: RequestRecord | None) -> str | None:
        told: str | None = pipeline.guard.call("watch", "audit", text_of, sender)
        return told

    def signal(_sender: object, _payload: Payload, _record: RequestRecord | None) -> str | None:
        return name

    return {"user": user, "ip": ip, "path": path, "sender": sender, "signal": signal}[field]


def _payload_text(field: str, name: str, redaction: Redaction) -> Text:
    if redaction.hides(field):
        return lambda _sender, _payload, _record: MASK
    read = reader_of(field)

    def text(_sender: object, payload: Payload, _record: RequestRecord | None) -> str | None:
        value = read(payload)
        if value is MISSING:
            raise LookupError(f"the payload of {name} has no {field}, which its audit template names")
        return text_of(redaction.mask_mapping({field: value})[field])

    return text
