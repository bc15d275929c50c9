"""One ``/metrics`` that is asked again and again."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from ..errors import ObservabilityError
from ..http_opener import opener
from ..http_opener import why_unreachable
from .scrape import read_scrape
from .scrape import Scrape

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["Target", "TargetError"]

ACCEPT = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5"

REMEDIES = {
    401: "the metrics want a token, or another one: give that of metrics_access with --token",
    403: "metrics_access does not let this machine in: ask from the app's own, or set it to token:<secret>",
    404: "there are no metrics at this path: give the one of metrics_path, with the prefix of the app",
}


class TargetError(ObservabilityError):
    """A scrape that failed; the message names the URL, the reason and the remedy, in one line."""


class Target:
    """One URL. Safe to use from several threads.

    Args:
        url: ``http`` or ``https``; ``http://`` may be left out, and so may ``/metrics`` where there is no other path.
        token: That of ``metrics_access``.
        timeout_seconds: Above 0; for each step of a connection.

    Raises:
        TargetError: The URL is none.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 5.0) -> None:
        self.url = whole_url(url)
        self._timeout_seconds = timeout_seconds
        self._headers = {"Accept": ACCEPT}
        if token:
            if not (token.isascii() and token.isprintable()):
                raise TargetError("the token holds a line break or another character that no token has")
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = opener()

    def scrape(self) -> Scrape:
        """Ask for the metrics.

        Raises:
            TargetError: There was no answer, or no metrics of an observed app in it.
        """
        at_seconds = time.monotonic()
        families = self.families()
        try:
            scrape = read_scrape(families, at_seconds)
        except (KeyError, ValueError) as error:
            raise TargetError(f"{self.url} has a histogram without bounds: is that an observed app?") from error
        if not (scrape.apps or scrape.durations):
            raise TargetError(f"{self.url} has no metrics of an observed app: is Observability(app) called there?")
        return scrape

    def families(self) -> list[Metric]:
        """Ask for the metrics, and return all that there are.

        Raises:
            TargetError: There was no answer, or no metrics in it.
        """
        request = urllib.request.Request(self.url, headers=self._headers)  # noqa: S310 - http or https: see whole_url
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                is_openmetrics = response.headers.get_content_type() == "application/openmetrics-text"
                text = response.read().decode("utf-8", "replace")
            return list((openmetrics_families if is_openmetrics else text_string_to_metric_families)(text))
        except urllib.error.HTTPError as error:
            with error:
                raise TargetError(self._refusal(error)) from error
        except urllib.error.URLError as error:
            raise TargetError(self._unreachable(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise TargetError(self._unreachable(error)) from error
        except (ValueError, KeyError, IndexError, AttributeError) as error:  # whatever the parsers raise for a page
            raise TargetError(f"{self.url} answered no metrics: give the path of metrics_path") from error

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        if target := error.headers.get("Location"):
            return f"{self.url} answered {error.code} and points to {target!r}: give that address itself"
        remedy = REMEDIES.get(error.code)
        return f"{self.url} answered {error.code}" + (f": {remedy}" if remedy else "")

    def _unreachable(self, reason: object) -> str:
        why = why_unreachable(self.url, reason, timeout_seconds=self._timeout_seconds)
        return f"{why}: does the app listen there?" if isinstance(reason, ConnectionRefusedError) else why


def whole_url(url: str) -> str:
    """Return ``url`` with a scheme and a path.

    Raises:
        TargetError: It is none of http or https; or it names a user, whose password would be in every message.
    """
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if "@" in parts.netloc:
            raise TargetError("the address names a user: leave it out, and give the token of metrics_access")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii():
            path = parts.path if parts.path.strip("/") else "/metrics"
            return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    except ValueError:
        pass
    raise TargetError(f"{url!r} is no address of metrics: give one such as http://localhost:8000/metrics")
