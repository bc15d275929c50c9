"""Who asked, from where and for what: the environ's share of a record, the request id, the user."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from typing import TYPE_CHECKING

from flask import Flask
from flask import g
from werkzeug.local import LocalProxy

from .forwarding import address_of
from .forwarding import address_of_hop
from .forwarding import client_behind
from .forwarding import MAX_HOP_LENGTH
from .forwarding import PROXY_FIX
from .record import Details
from .redaction import mask_patterns
from .text import utf8

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from .config import Config
    from .record import RequestRecord
    from .redaction import Redaction

__all__ = ["make_details_reader", "make_reader", "make_user_reader", "path_of", "prefix_of", "request_id_from"]

LOADED_LOGIN_USER = "_login_user"
"""The attribute of ``flask.g`` where Flask-Login (0.6.3) keeps the user it has loaded; read nowhere else."""

g_here = g._get_current_object
"""Returns ``g`` itself. Bound once: to look for it in the proxy takes half of what it does."""

new_tuple = tuple.__new__

PLAIN_GLOBALS = Flask.app_ctx_globals_class

DEFAULT_PORTS = {"http": 80, "https": 443}
PROTOCOL_VERSIONS = {
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2": "2",
    "HTTP/2.0": "2",
    "HTTP/3": "3",
    "HTTP/3.0": "3",
}
"""``network.protocol.version`` by SERVER_PROTOCOL."""

HIGHEST_PORT = 65535
MAX_PORT_DIGITS = 5
MAX_SIZE_DIGITS = 18

MAX_AGENT_LENGTH = 500
"""What is longer is not kept in a cache."""

MAX_HOST_LENGTH = 300
"""What is longer is none; cut before it becomes the key of a cache."""

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{0,5}))?", re.ASCII).fullmatch
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII).fullmatch


def make_reader(config: Config, redaction: Redaction) -> Callable[[RequestRecord], None]:
    """Return the function that copies into a record what its environ says and most outputs tell.

    It runs for every request and never raises for what a client can send; what is missing or malformed is None.
    Names and meanings are OpenTelemetry's (HTTP semantic conventions). Safe to use from several threads.
    """
    capture_query = config.capture_query
    mask_query = redaction.mask_query
    trusted_proxies = config.trusted_proxies
    client_of = client_behind(trusted_proxies)

    def read(record: RequestRecord) -> None:
        # The hot path: `python tests/benchmarks/overhead.py --instructions` has it in every row of ours.
        environ = record.environ
        get = environ.get
        record.details = None  # should they have been read before a ProxyFix
        record.scheme = get("wsgi.url_scheme", "").lower()
        # Masked here, once, so that no output can differ in it.
        path = get("PATH_INFO", "")
        record.path = mask_patterns(path if path.isascii() and path and not get("SCRIPT_NAME") else path_of(environ))
        if capture_query:
            record.query = mask_patterns(mask_query(_text(get("QUERY_STRING", "")))) or None
        before_proxy_fix = get(PROXY_FIX)
        peer = get("REMOTE_ADDR") if before_proxy_fix is None else before_proxy_fix.get("REMOTE_ADDR")
        record.peer_address = peer = address_of_hop(peer[:MAX_HOP_LENGTH]) if peer else None
        if before_proxy_fix is None and not trusted_proxies:
            record.client_address = peer
        else:
            record.client_address = client_of(environ, peer)
        size = get("CONTENT_LENGTH")
        record.request_size = _size(size) if size else None

    return read


def make_details_reader(config: Config, redaction: Redaction) -> Callable[[RequestRecord], Details]:
    """Return the function that tells what an environ says beyond that, for whoever asks; as the reader otherwise."""
    mask_headers = redaction.mask_headers
    headers = _captured(config.capture_request_headers)

    def read_details(record: RequestRecord) -> Details:
        # The hot path of a request that is sampled.
        environ = record.environ
        get = environ.get
        host = get("HTTP_HOST") or _host_of_server(get("SERVER_NAME", ""), get("SERVER_PORT", ""))
        address, port = _address_and_port(host[:MAX_HOST_LENGTH], record.scheme)
        peer_port = get("REMOTE_PORT")
        version = PROTOCOL_VERSIONS.get(get("SERVER_PROTOCOL", ""))
        agent = get("HTTP_USER_AGENT")
        if agent:
            agent = _agent(agent) if len(agent) <= MAX_AGENT_LENGTH else mask_patterns(_text(agent))
        captured = None
        if headers:
            captured = {name: mask_headers(name, [_text(environ[key])]) for name, key in headers if key in environ}
        told = address, port, _port(peer_port) if peer_port else None, version, agent or None, captured
        return new_tuple(Details, told)  # as Details(...), without the function behind it

    return read_details


def path_of(environ: dict[str, Any]) -> str:
    """Return the decoded path of a request, with the prefix that the app is mounted under."""
    get = environ.get
    prefix = get("SCRIPT_NAME", "")
    path = get("PATH_INFO", "")
    return _text(prefix.rstrip("/") + path if prefix else path) or "/"


def prefix_of(environ: dict[str, Any]) -> str:
    """Return the decoded prefix that the app is mounted under, without a slash at its end; mostly ``""``."""
    prefix = environ.get("SCRIPT_NAME", "")
    return _text(prefix.rstrip("/")) if prefix else ""


def request_id_from(environ: dict[str, Any], environ_key: str) -> str:
    """Return the id that the client or a proxy sent under ``environ_key`` (``HTTP_X_REQUEST_ID``), or make one.

    Accepted are 1 to 128 of ``A-Za-z0-9 . _ : / + = @ -``. A made one is 32 hex digits from the kernel: ``random``
    repeats itself where an app seeds it, and in the workers of a server that forks behind Python's back.
    """
    sent = environ.get(environ_key)
    if isinstance(sent, str) and _REQUEST_ID(sent):
        accepted: str = sent
        return accepted
    return os.urandom(16).hex()


def make_user_reader(config: Config) -> Callable[[], str | None]:
    """Return the function that tells the id of the current request's user, or None.

    It reads ``config.user()`` if there is one, else ``g.current_user``, else the user that Flask-Login has loaded
    already. It never loads a user and never touches ``session``, which would add ``Vary: Cookie`` to the response.
    What ``config.user`` or a user's ``get_id`` raises passes.
    """
    named = config.user
    if named is None:
        return _user_in_g
    return lambda: _user_id(named())


def _user_in_g() -> str | None:
    here = g_here()
    if type(here) is PLAIN_GLOBALS:
        # Without a call of its get(): mostly there is nothing in it.
        here = here.__dict__
        if not here:
            return None
    elif not hasattr(here, "get"):  # of an app_ctx_globals_class of the app's own
        here = vars(here)
    get = here.get
    user = get("current_user")
    # Flask-Login's current_user, kept in g, is a proxy: looking at it would load the user from the session.
    if user is None or isinstance(user, LocalProxy):
        user = get(LOADED_LOGIN_USER)
    return None if user is None else _user_id(user)


def _user_id(user: Any) -> str | None:
    """Return what names a user: text or a number, what ``get_id()`` or ``id`` says, or a ``__str__`` of its own.

    Never the repr of a container or of a plain object: it would tell everything about the user, or nothing.
    """
    if user is None:
        return None
    if isinstance(user, str):
        return utf8(user) or None
    if not getattr(user, "is_authenticated", True):
        return None
    get_id = getattr(user, "get_id", None)
    if callable(get_id):
        user = get_id()
    elif isinstance(user, Mapping):
        user = user.get("id")
    elif not isinstance(user, int) and getattr(type(user), "__str__", None) is object.__str__:
        user = getattr(user, "id", None)
    if user is None or isinstance(user, (Mapping, list, tuple, set, frozenset)):
        return None
    return utf8(str(user)) or None


def _text(raw: str) -> str:
    """Return what the bytes behind a WSGI string (PEP 3333: decoded as latin-1) say in UTF-8."""
    return raw if raw.isascii() else raw.encode("latin-1", "replace").decode("utf-8", "replace")


def _captured(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return ``(name, environ key)`` of each header to capture."""
    captured = []
    for name in names:
        key = name.upper().replace("-", "_")
        captured.append((name.lower(), key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"))
    return captured


def _host_of_server(name: str, port: object) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


@lru_cache(maxsize=256)
def _address_and_port(host: str, scheme: str) -> tuple[str | None, int | None]:
    """Return ``server.address`` and ``server.port`` of a Host header; both None where it is malformed."""
    match = _HOST(host)
    if match is None:
        return None, None
    ipv6, name, digits = match.groups()
    port = int(digits) if digits else DEFAULT_PORTS.get(scheme)
    address = name if ipv6 is None else address_of(ipv6)
    if address is None or (port is not None and not 0 < port <= HIGHEST_PORT):
        return None, None
    return address, port


@lru_cache(maxsize=256)
def _agent(raw: str) -> str:
    """Return a User-Agent as it may be told; most clients of a moment send the same few."""
    return mask_patterns(_text(raw))


def _port(value: object) -> int | None:
    """Return a port that the server gives as text or as a number."""
    text = str(value)
    if len(text) > MAX_PORT_DIGITS or not text.isdecimal():
        return None
    number = int(text)
    return number if 0 < number <= HIGHEST_PORT else None


def _size(text: str) -> int | None:
    return int(text) if len(text) <= MAX_SIZE_DIGITS and text.isdecimal() else None
