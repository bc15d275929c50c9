"""One request over the network in bounded time, and what its failure means."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["NETWORK_ERRORS", "Answer", "fetch", "reason_and_remedy"]

MAX_BODY_BYTES = 50_000_000

NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)
"""What a request may fail with; an address that is none is a ``ValueError``."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        """Stay: a POST that is redirected arrives as a GET."""


def fetch(
    url: str,
    *,
    timeout_seconds: float,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request, through the proxy of the environment if there is one, and return the answer whatever it is.

    Raises:
        OSError: nothing came back.
        http.client.HTTPException: what came back is no HTTP.
        ValueError: the address is none.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no address")
    request = urllib.request.Request(url, body, headers or {})  # noqa: S310 - http and https only
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout_seconds) as response:
            return Answer(response.status, response.headers, response.read(MAX_BODY_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read(MAX_BODY_BYTES))
    except urllib.error.URLError as error:
        raise (error.reason if isinstance(error.reason, OSError) else error) from None


def reason_and_remedy(error: BaseException, url: str, timeout_seconds: float) -> tuple[str, str]:
    """Explain why nothing came back."""
    host = urlsplit(url).hostname or ""
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, host)
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionResetError):
        return _of_protocol(str(error.args[0]))
    for kind, reason, remedy in REASONS:
        if isinstance(error, kind):
            return reason.format(host=host, seconds=timeout_seconds, error=error), remedy
    return f"{type(error).__name__}: {error}", "see whether curl reaches it from this machine"


REASONS: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "the name {host!r} cannot be resolved ({error.strerror})", "mend the host, or the DNS"),
    (
        ConnectionRefusedError,
        "the connection is refused: nothing listens there",
        "start it, or mend the port (OTLP over HTTP is 4318; in a container localhost is the container itself)",
    ),
    (
        TimeoutError,
        "there is no answer within {seconds:g} s",
        "is a firewall or a network policy in between? Is it hung?",
    ),
    (
        ConnectionError,
        "the connection is closed without an answer",
        "does it want https://, or is it the gRPC port (4317)? Then OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or 4318",
    ),
    (FileNotFoundError, "a file of certificates is not there", "mend OTEL_EXPORTER_OTLP_CERTIFICATE and its like"),
    (ValueError, "the address cannot be used ({error})", "write it as http://host:4318"),
    (http.client.InvalidURL, "the address cannot be used ({error})", "write it as http://host:4318"),
)


def _of_tls(error: ssl.SSLError, host: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = (
            f"use the name that the certificate is made out to, or one for {host}"
            if "mismatch" in error.verify_message or "not valid for" in error.verify_message
            else "name its authority: OTEL_EXPORTER_OTLP_CERTIFICATE=/path/ca.pem; or renew it"
        )
        return f"its certificate is not accepted: {error.verify_message}", remedy
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "it does not speak TLS", "write http:// instead of https://"
    if "ALERT" in str(error.reason) and "CERTIFICATE" in str(error.reason):
        remedy = "set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY"
        return f"it wants a certificate of the client's ({error.reason})", remedy
    return f"TLS fails ({error.reason or error})", "compare with openssl s_client -connect"


def _of_protocol(line: str) -> tuple[str, str]:
    if line.startswith(("\x15\x03", "\x16\x03")):
        return "it speaks TLS", "write https:// instead of http://"
    if line.startswith("\x00\x00"):
        remedy = "send to 4318, or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc and install the exporter for it"
        return "it speaks HTTP/2 alone: that is the gRPC port", remedy
    return f"it answers no HTTP ({line[:40]!r})", "is something else listening on this port?"
