"""A port of its own for the metrics, in the process that keeps them."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any
from typing import TYPE_CHECKING

from werkzeug.serving import make_server
from werkzeug.serving import WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ..guard import Guard

__all__ = ["Server", "listen", "serve"]

logger = logging.getLogger("flask_signal_observability")


class Server:
    """The metrics on a port of their own, answered by a daemon thread."""

    def __init__(self, listener: socket.socket, application: WSGIApplication) -> None:
        host = "::" if listener.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - all interfaces, by design
        self.port: int = listener.getsockname()[1]
        with listener:  # make_server duplicates the descriptor
            self._server = make_server(
                host, self.port, application, threaded=True, request_handler=_QuietHandler, fd=listener.fileno()
            )
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics-port", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; blocks up to half a second. Closing twice is harmless."""
        self._server.shutdown()
        self._thread.join()


def serve(port: int, application: WSGIApplication, guard: Guard) -> Server | None:
    """Serve ``application`` on all interfaces, IPv4 and IPv6, at every path.

    A port that cannot be had is counted and told in one warning, never raised: the app runs on without it.

    Args:
        port: 1 to 65535, or 0 for any free one.
        application: What answers, usually an ``Exposition``, which brings its own access rule.
        guard: Counts the failure, under ``metrics`` and ``serve``.

    Returns:
        The running server, or None where the port could not be had.
    """
    try:
        return Server(listen(port), application)
    except OSError as error:
        if guard.count is not None:
            guard.count("metrics", "serve")
        logger.warning(
            "metrics_port %d could not be opened (%s): the metrics are not served there. Stop what listens on it, or "
            "set another metrics_port. Workers of gunicorn share one with its hooks, "
            "-c python:flask_signal_observability.gunicorn; any other process needs one of its own.",
            port,
            error,
        )
        return None


def listen(port: int) -> socket.socket:
    """Return a socket that listens on all interfaces.

    Raises:
        OSError: the port cannot be had.
    """
    # Bound here because Werkzeug ends the process where it cannot bind.
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


class _QuietHandler(WSGIRequestHandler):
    """Keeps scrapes out of the app's log."""

    timeout = 30  # seconds; a client that says nothing gives its thread back

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        pass
