"""Grafana's HTTP API, as far as dashboards need it.

https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .errors import ObservabilityError
from .http_opener import opener
from .http_opener import why_unreachable

__all__ = ["Grafana", "GrafanaError", "origin"]

REMEDIES = {
    401: "the token is unknown or has expired: make one under Administration, Service accounts",
    403: "the token may not write dashboards there: its service account needs the role Editor",
    404: "there is no Grafana, or no such folder: --url needs its sub-path, --folder a uid",
    412: "a dashboard of the same title is in that folder: delete or rename it",
}


class GrafanaError(ObservabilityError):
    """Grafana refused, or could not be reached; the message says why and what to do."""


class Grafana:
    """One Grafana, to which dashboards are written. Safe to use from several threads."""

    def __init__(self, url: str, token: str, *, timeout_seconds: float = 10.0) -> None:
        """Connects with the first dashboard.

        Args:
            url: of Grafana's start page, http or https, with its sub-path if it has one.
            token: of a service account.
            timeout_seconds: above 0; for each step of a connection.

        Raises:
            GrafanaError: the url is none or names a user, or the token cannot be one.
        """
        if not (token.isascii() and token.isprintable()):
            raise GrafanaError("the token holds a line break or another character that no token has")
        self._origin = origin(url)
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._opener = opener()

    def put(self, dashboard: dict[str, Any], *, folder_uid: str | None = None) -> dict[str, Any]:
        """Write one dashboard over the one with its uid; return its ``uid``, ``version`` and whole ``url``.

        Raises:
            GrafanaError: it is not there afterwards.
        """
        body: dict[str, Any] = {"dashboard": dashboard, "overwrite": True, "message": "flask-signal-observability"}
        if folder_uid is not None:
            body["folderUid"] = folder_uid
        answer = self._post("/api/dashboards/db", body)
        try:
            page = urllib.parse.urljoin(self._origin, answer["url"])
            return {"uid": answer["uid"], "version": answer["version"], "url": page}
        except (KeyError, TypeError) as error:
            raise GrafanaError(f"{self._url} answered {answer!r}, which no Grafana does") from error

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", "Accept": "*/*"}
        request = urllib.request.Request(  # noqa: S310  # http or https: see __init__
            self._url + path, json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise GrafanaError(_refusal(self._url, error)) from error
        except urllib.error.URLError as error:
            raise GrafanaError(self._unreachable(error.reason)) from error
        except ValueError as error:
            raise GrafanaError(f"{self._url} answered no JSON: is that Grafana, and not a login page?") from error
        except (OSError, http.client.HTTPException) as error:
            raise GrafanaError(self._unreachable(error)) from error

    def _unreachable(self, reason: object) -> str:
        return why_unreachable(self._url, reason, timeout_seconds=self._timeout_seconds)


def origin(url: str) -> str:
    """Return scheme, host and port of Grafana's start page.

    Raises:
        GrafanaError: the url is none of http or https; or it names a user, whose password would be in every message.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        if "@" in parts.netloc:
            raise GrafanaError("the address of Grafana names a user: leave it out, a token says who writes")
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii():
            return f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        pass
    raise GrafanaError(f"{url!r} is no address of a Grafana: give one such as https://grafana.example.org")


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if target := error.headers.get("Location"):
        return f"{url} answered {error.code} and points to {target!r}: give that Grafana's address itself"
    try:
        said = f" ({json.loads(error.read())['message']})"
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        said = ""
    remedy = REMEDIES.get(error.code)
    return f"{url} answered {error.code}{said}" + (f": {remedy}" if remedy else "")
