"""What our own commands ask other servers with: urllib, without its redirects, and its errors in plain words."""

from __future__ import annotations

import ssl
import urllib.request
from typing import IO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["opener", "why_unreachable"]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would follow with a GET, and take the token to whatever host it is sent to."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def opener() -> urllib.request.OpenerDirector:
    """Return what opens requests; a redirect is an ``HTTPError`` like any other refusal."""
    return urllib.request.build_opener(_NoRedirect)


def why_unreachable(url: str, reason: object, *, timeout_seconds: float) -> str:
    """Return why nothing came back from ``url``, in one line."""
    if isinstance(reason, TimeoutError):
        return f"{url} did not answer within {timeout_seconds:g} s"
    if isinstance(reason, ssl.SSLCertVerificationError):
        remedy = "SSL_CERT_FILE names an authority of your own"
        return f"{url} has a certificate that is not trusted ({reason.verify_message}): {remedy}"
    return f"cannot reach {url}: {reason}"
