"""The client behind proxies: Forwarded (RFC 7239) and X-Forwarded-For, and which of their hops to believe."""

from __future__ import annotations

import ipaddress
import logging
from functools import lru_cache
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

__all__ = ["MAX_HOP_LENGTH", "PROXY_FIX", "address_of", "address_of_hop", "claimed_addresses", "client_behind"]

logger = logging.getLogger("flask_signal_observability")

PROXY_FIX = "werkzeug.proxy_fix.orig"
"""Where Werkzeug's ProxyFix keeps what the environ said before it."""

MAX_HOP_LENGTH = 100
"""What is longer is no address; cut before it becomes the key of a cache."""

MAX_HOPS = 32
"""Hops that are looked at, the newest ones: a client may send as many as its server takes."""


def client_behind(trusted_proxies: int | Sequence[str]) -> Callable[[dict[str, Any], str | None], str | None]:
    """Return the function that tells ``client.address`` from an environ and the peer's address.

    Args:
        trusted_proxies: How many of the rightmost hops to believe; or the networks of proxies: from the peer on, each
            hop is believed while the one that told it is in one of them.
    """
    hop_in = _counted(trusted_proxies) if isinstance(trusted_proxies, int) else _in_networks(trusted_proxies)
    warned = False

    def client_of(environ: dict[str, Any], peer: str | None) -> str | None:
        nonlocal warned
        if PROXY_FIX in environ:
            if trusted_proxies and not warned:
                warned = True
                logger.warning(
                    "trusted_proxies=%r is ignored: Werkzeug's ProxyFix has decided on the client's address already; "
                    "use one of the two",
                    trusted_proxies,
                )
            hop = environ.get("REMOTE_ADDR")
            return (address_of_hop(hop[:MAX_HOP_LENGTH]) if hop else None) or peer
        header, read = _header(environ)
        return peer if header is None else hop_in(header, read, peer) or peer

    return client_of


def claimed_addresses(environ: dict[str, Any]) -> tuple[str, ...]:
    """Return what X-Forwarded-For says, or Forwarded where there is none: as it is, whoever said it.

    An address is written as every other one; what is none (``unknown``, ``_hidden``) is cut at 100 characters.
    """
    if "HTTP_X_FORWARDED_FOR" not in environ and "HTTP_FORWARDED" not in environ:
        return ()
    header, read = _header(environ)
    if header is None:
        return ()
    hops = [read(hop).strip()[:MAX_HOP_LENGTH] for hop in header.rsplit(",", MAX_HOPS)[-MAX_HOPS:]]
    return tuple(address_of_hop(hop) or hop for hop in hops if hop)


def _header(environ: dict[str, Any]) -> tuple[str | None, Callable[[str], str]]:
    """Return the header that counts, and how the address of one of its elements is read."""
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR")
    if forwarded_for is not None:
        return forwarded_for, _itself
    return environ.get("HTTP_FORWARDED"), _forwarded_for


def _counted(number: int) -> Callable[[str, Callable[[str], str], str | None], str | None]:
    def hop_in(header: str, read: Callable[[str], str], _peer: str | None) -> str | None:
        return address_of_hop(read(_hop(header, number))[:MAX_HOP_LENGTH])

    return hop_in


def _in_networks(networks: Sequence[str]) -> Callable[[str, Callable[[str], str], str | None], str | None]:
    trusted = [ipaddress.ip_network(network) for network in networks]

    @lru_cache(maxsize=4096)
    def is_trusted(address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in trusted)

    def hop_in(header: str, read: Callable[[str], str], peer: str | None) -> str | None:
        address = peer
        for element in reversed(header.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            if address is None or not is_trusted(address):
                break
            address = address_of_hop(read(element)[:MAX_HOP_LENGTH])
        return address

    return hop_in


def _itself(element: str) -> str:
    return element


def _hop(header: str, number: int) -> str:
    """Return the ``number``-th element from the right, or the leftmost where there are fewer.

    Commas in quoted strings separate too: else a quote that the client leaves open would swallow what the trusted
    proxies have added behind it, and no address holds a comma.
    """
    elements = header.rsplit(",", number)
    return elements[-number] if len(elements) >= number else elements[0]


def _forwarded_for(element: str) -> str:
    """Return the value of ``for=`` in one element of a Forwarded header (RFC 7239); empty where it has none."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value
    return ""


@lru_cache(maxsize=4096)
def address_of_hop(hop: str) -> str | None:
    """Return the address of a peer or a hop, which may be quoted and carry a port; None if it names no address."""
    text = hop.strip().strip('"')
    if text.startswith("["):
        text, _, rest = text[1:].partition("]")
        return address_of(text) if not rest or rest[0] == ":" else None
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return address_of(text)


def address_of(text: str) -> str | None:
    """Return ``text`` as ``ipaddress`` writes it, so that one client has one name.

    An IPv4 address mapped into IPv6 is an IPv4 client on a dual-stack socket, and is written in the IPv4 way: Python
    before 3.13 spells the mapped form in hex. The zone of a link-local address is left out: it may hold any character.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or address).partition("%")[0]
    return str(address)
