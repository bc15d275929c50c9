"""Who may read the metrics: ``Config.metrics_access`` as a rule over the WSGI environ."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from ipaddress import ip_network
from ipaddress import IPv4Address
from ipaddress import IPv4Network
from ipaddress import IPv6Address
from ipaddress import IPv6Network
from typing import NamedTuple
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from .errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .guard import Guard

__all__ = ["AccessRule", "Refusal", "make_rule"]


class Refusal(NamedTuple):
    """The answer to a request that may not read the metrics."""

    status: str
    """As WSGI wants it: ``"403 Forbidden"``."""
    headers: list[tuple[str, str]]
    body: str


AccessRule = Callable[["WSGIEnvironment"], "Refusal | None"]
"""None lets the request in. Safe to call from several threads; never raises on what a client sent."""

Network = IPv4Network | IPv6Network

PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",  # loopback, RFC 1122 and RFC 4291
        "::1/128",
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",  # unique local addresses, RFC 4193
        "169.254.0.0/16",  # link-local, RFC 3927 and RFC 4291
        "fe80::/10",
        "100.64.0.0/10",  # shared address space, RFC 6598
    )
)
"""Spelt out, because what ``ipaddress`` calls private differs between Python versions."""

UNIX_SOCKET_PEERS = frozenset(("", "localhost", "<local>"))
"""REMOTE_ADDR of a unix socket: nothing from gunicorn, a word from waitress and from Werkzeug."""

FORWARDING_HEADERS = frozenset(
    {
        "HTTP_FORWARDED",
        "HTTP_VIA",
        "HTTP_X_REAL_IP",
        "HTTP_X_CLIENT_IP",
        "HTTP_X_CLUSTER_CLIENT_IP",
        "HTTP_TRUE_CLIENT_IP",
        "HTTP_CF_CONNECTING_IP",
        "HTTP_CDN_LOOP",
        "HTTP_X_ENVOY_EXTERNAL_ADDRESS",
    }
)
FORWARDING_PREFIX = "HTTP_X_FORWARDED_"
"""What proxies and content delivery networks add. One that adds nothing looks like a direct peer."""


HOW_TO_OPEN = 'To open them set metrics_access to "open", "token:<secret>" or "networks:<cidr>,<cidr>".\n'


def make_rule(spec: str | Callable[[Request], object], guard: Guard) -> AccessRule:
    """Return the rule that ``metrics_access`` asks for.

    Args:
        spec: ``private``, ``open``, ``token:<secret>``, ``networks:<cidr>,<cidr>``, or a callable that takes a
            Werkzeug request and opens by returning ``True`` itself, not merely something true.
        guard: Counts a callable that raises; the request is then refused.

    Raises:
        ConfigurationError: ``spec`` is none of these; its text is left out, since it may hold a secret.
    """
    if callable(spec):
        return partial(_asked, spec, guard)
    kind, _, value = spec.partition(":")
    if kind == "private":
        return _private
    if kind == "open":
        return _open
    if kind == "token" and value.strip():
        return partial(_token, value.strip().encode("utf-8", "surrogateescape"))
    if kind == "networks":
        return partial(_networks, tuple(ip_network(n.strip(), strict=False) for n in value.split(",") if n.strip()))
    raise ConfigurationError(
        "metrics_access must be 'private', 'open', 'token:<secret>', 'networks:<cidr>,<cidr>' or a callable"
    )


def _open(environ: WSGIEnvironment) -> None:
    return None


def _private(environ: WSGIEnvironment) -> Refusal | None:
    if _came_through_a_proxy(environ):
        return _forbidden(f"These metrics are private, and this request came through a proxy. {HOW_TO_OPEN}")
    if _peer(environ) in UNIX_SOCKET_PEERS or _is_in(_peer(environ), PRIVATE_NETWORKS):
        return None
    return _forbidden(f"These metrics are private, and this request came from a public address. {HOW_TO_OPEN}")


def _token(token: bytes, environ: WSGIEnvironment) -> Refusal | None:
    scheme, _, sent = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # WSGI hands bytes over as Latin-1; compare_digest takes text only while it is ASCII.
    matches = hmac.compare_digest(sent.strip(" \t").encode("latin-1", "backslashreplace"), token)
    if matches and scheme.lower() == "bearer":
        return None
    return Refusal(
        "401 Unauthorized",
        [*_TEXT, ("WWW-Authenticate", 'Bearer realm="metrics"')],
        "These metrics need the header Authorization: Bearer with the token of metrics_access.\n",
    )


def _networks(networks: tuple[Network, ...], environ: WSGIEnvironment) -> Refusal | None:
    """Behind a proxy the proxy is the peer: listing its address opens the metrics to all that it lets through."""
    if _is_in(_peer(environ), networks):
        return None
    return _forbidden("These metrics are open to the networks of metrics_access, and the peer is in none of them.\n")


def _asked(ask: Callable[[Request], object], guard: Guard, environ: WSGIEnvironment) -> Refusal | None:
    def answer() -> object:
        return ask(Request(environ, populate_request=False))

    if guard.call("metrics", "access", answer) is True:
        return None
    return _forbidden("The rule of metrics_access did not open these metrics to this request.\n")


def _came_through_a_proxy(environ: WSGIEnvironment) -> bool:
    if any(key in FORWARDING_HEADERS or key.startswith(FORWARDING_PREFIX) for key in environ):
        return True
    # ProxyFix leaves the originals behind even where it changed nothing.
    original = environ.get("werkzeug.proxy_fix.orig", {})
    return any(environ.get(key) != original[key] for key in ("REMOTE_ADDR", "wsgi.url_scheme") if key in original)


def _peer(environ: WSGIEnvironment) -> str:
    """Return the address at the other end of the socket, whatever ProxyFix made of it."""
    return environ.get("werkzeug.proxy_fix.orig", environ).get("REMOTE_ADDR") or ""


def _is_in(peer: str, networks: tuple[Network, ...]) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(address in network or (mapped is not None and mapped in network) for network in networks)


def _forbidden(body: str) -> Refusal:
    return Refusal("403 Forbidden", [*_TEXT], body)


_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
