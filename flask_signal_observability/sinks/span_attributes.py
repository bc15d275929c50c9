"""The attributes of a server span and of its events, by OpenTelemetry's HTTP conventions."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from ..catalogue import OTHER
from ..redaction import mask_repr
from ..text import utf8
from .request_span import NAME
from .server_span.span import PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from ..guard import Guard
    from ..record import RequestRecord
    from ..redaction import Redaction

    Attributes = dict[str, AttributeValue]

__all__ = ["SpanAttributes", "request_attributes", "span_name"]


def request_attributes(record: RequestRecord) -> Attributes:
    """Return what is known of a request before it is answered, by the convention's names."""
    # The hot path: a dict that is written down and rarely thinned out costs half of one made by a comprehension;
    # to look for None among its values, each compared, would cost as much as to make it.
    server_address, server_port, peer_port, protocol_version, user_agent, headers = record.told_details()
    attributes: dict[str, Any] = {
        "http.request.method": record.method,
        "url.scheme": record.scheme,
        "url.path": record.path,
        "server.address": server_address,
        "server.port": server_port,
        "client.address": record.client_address,
        "network.peer.address": record.peer_address,
        "network.protocol.version": protocol_version,
        "user_agent.original": user_agent,
        "http.route": record.route,
        "flask.endpoint": record.endpoint,
        "flask.request_id": record.request_id,
    }
    if (
        server_port is None
        or record.client_address is None
        or record.peer_address is None
        or protocol_version is None
        or user_agent is None
        or record.route is None
        or record.endpoint is None
        or record.request_id is None
        or server_address is None
    ):
        attributes = {key: value for key, value in attributes.items() if value is not None}
    if record.method_original is not None:
        attributes["http.request.method_original"] = record.method_original
    if record.query is not None:
        attributes["url.query"] = record.query
    if peer_port is not None:
        attributes["network.peer.port"] = peer_port
    if record.request_size is not None:
        attributes["http.request.body.size"] = record.request_size
    if headers is not None:
        for header, values in headers.items():
            attributes[f"http.request.header.{header}"] = values
    return attributes


class SpanAttributes:
    """What of an answer, an annotation and an event becomes attributes.

    Args:
        guard: Stands between the app's objects and the request.
        redaction: Masks headers and annotations.
        response_headers: Those to capture, in lower case.
    """

    def __init__(self, guard: Guard, redaction: Redaction, response_headers: tuple[str, ...]) -> None:
        self._guard = guard
        self._redaction = redaction
        self._response_headers = response_headers

    def add_response(self, attributes: Attributes, record: RequestRecord) -> None:
        """Add what is known once a request is over; no annotation replaces what the request says of itself."""
        if record.status is not None:
            attributes["http.response.status_code"] = record.status
        if record.response_size is not None:
            attributes["http.response.body.size"] = record.response_size
        if record.error_type is not None:
            attributes["error.type"] = record.error_type
        if record.user is not None:
            attributes["user.id"] = record.user
        if record.client_disconnected:
            attributes["client_disconnected"] = True
        for header in self._response_headers:
            values = [value for name, value in record.response_headers or () if name.lower() == header]
            if values:
                attributes[f"http.response.header.{header}"] = self._redaction.mask_headers(header, values)
        if record.annotations:
            own = attributes.keys() | request_attributes(record).keys()
            attributes.update(self._annotations(record.annotations, own))

    def _annotations(self, annotations: Mapping[str, Any], own: set[str]) -> Attributes:
        return {
            key: self._guard.call(NAME, "annotate", attribute, value, default="<unprintable>")
            for key, value in self._redaction.mask_mapping(dict(annotations)).items()
            if key not in own
        }

    def of_event(self, fields: dict[str, Any]) -> Attributes:
        """Return an event's fields as attributes."""
        if PLAIN.issuperset(map(type, fields.values())):
            return fields
        return {
            key: value if type(value) in PLAIN else self._guard.call(NAME, "event", attribute, value, default="")
            for key, value in fields.items()
            if value is not None
        }


def span_name(record: RequestRecord) -> str:
    """Return the convention's name: ``{method} {route}``, ``HTTP`` standing for a method that is not known."""
    method = "HTTP" if record.method == OTHER else record.method
    return method if record.route is None else f"{method} {record.route}"


def attribute(value: Any) -> AttributeValue:
    """Return an annotation as an attribute value: a plain one as it is, a list of plain ones, else its text."""
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return [utf8(item) for item in value]
    return utf8(mask_repr(str(value)))
