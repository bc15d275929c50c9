"""Where telemetry is sent over OTLP: the address, and what goes with it.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import ssl
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import unquote
from urllib.parse import urlsplit
from urllib.parse import urlunsplit

from .tracing import protocol_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from ..exporters import Signal

__all__ = ["Destination", "destination_of", "destinations_of_provider"]

HTTP, GRPC = "http://localhost:4318", "http://localhost:4317"


@dataclasses.dataclass(frozen=True)
class Destination:
    """An address, and how to speak to it."""

    url: str
    what: str
    """What is sent there: ``spans``."""
    origin: str
    """Who says so: a variable, or the app's own exporter."""
    path: str
    """What the address of this kind of telemetry ends with."""
    is_grpc: bool = False
    headers: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    authority: str | None = None
    """A file of certificates to trust."""
    certificate: str | None = None
    certificate_key: str | None = None

    @property
    def host(self) -> str:
        """Whom to ask for; empty where the address is none."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def shown(self) -> str:
        """The address without what may be a secret."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def context(self) -> ssl.SSLContext | None:
        """Return what checks certificates as the exporter does; None where it is not asked to.

        Raises:
            OSError: a file cannot be read, or holds no certificate.
        """
        if urlsplit(self.url).scheme != "https":
            return None
        context = ssl.create_default_context(cafile=self.authority or trusted_by_requests())
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.certificate_key)
        return context


def trusted_by_requests() -> str | None:
    """Return the authorities that the exporter trusts, which are requests', not the system's."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if named:
        return named
    try:
        where: str = importlib.import_module("certifi").where()
    except ImportError:
        return None
    return where


def destination_of(signal: Signal, environ: Mapping[str, str]) -> Destination:
    """Return where the variables send this kind of telemetry."""

    def read(word: str) -> tuple[str, str]:
        for key in (f"OTEL_EXPORTER_OTLP_{signal.variable}_{word}", f"OTEL_EXPORTER_OTLP_{word}"):
            if environ.get(key):
                return key, environ[key].strip()
        return "the default", ""

    origin, url = read("ENDPOINT")
    is_grpc = protocol_of(signal, environ) == "grpc"
    path = f"/v1/{signal.variable.lower()}"
    if is_grpc:
        url = url or GRPC
        url = url if "://" in url else f"http://{url}"
    elif signal.variable not in origin:
        url = (url or HTTP).rstrip("/") + path
    return Destination(
        url,
        signal.what,
        origin,
        path,
        is_grpc,
        _headers(read("HEADERS")[1]),
        read("CERTIFICATE")[1] or None,
        read("CLIENT_CERTIFICATE")[1] or None,
        read("CLIENT_KEY")[1] or None,
    )


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in text.split(","))
    return tuple((unquote(name.strip()), unquote(value.strip())) for name, _, value in pairs if name.strip())


def destinations_of_provider(provider: Any) -> Iterator[Destination]:
    """Return where the exporters of an app's own TracerProvider send, as far as they tell."""
    # No public name tells which processors a provider has, nor where an exporter sends.
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    for processor in processors:
        exporter = getattr(processor, "span_exporter", None)
        url = getattr(exporter, "_endpoint", None)
        if isinstance(url, str) and url:
            is_grpc = ".grpc." in type(exporter).__module__
            sent = getattr(exporter, "_headers", None) or getattr(getattr(exporter, "_client", None), "_headers", None)
            headers = dict(sent) if isinstance(sent, dict) else {}
            authority = getattr(exporter, "_certificate_file", None)
            yield Destination(
                url if "://" in url else f"http://{url}",
                "spans",
                "the app's own exporter",
                "/v1/traces",
                is_grpc,
                tuple((str(name), str(value)) for name, value in headers.items()),
                authority if isinstance(authority, str) else None,
            )
