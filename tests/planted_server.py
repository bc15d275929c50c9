"""A server on loopback that answers every connection with the same bytes, whatever it is asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from flask_signal_observability.metrics_port.server import listen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

__all__ = ["answer", "planted"]


def answer(status: str, body: str = "", **headers: str) -> bytes:
    """An answer over HTTP/1.1; ``Content_Type`` is the header Content-Type."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode()


class Planted:
    """A running server, and the requests that it was sent."""

    def __init__(self, listener: socket.socket, reply: bytes | None, context: ssl.SSLContext | None) -> None:
        self.port: int = listener.getsockname()[1]
        self.requests: list[bytes] = []
        self._listener = listener
        self._reply = reply
        self._context = context
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._ended.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._talk, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            stream = connection if self._context is None else self._context.wrap_socket(connection, server_side=True)
            with stream:
                self.requests.append(stream.recv(65_536))
                if self._reply is None:
                    self._ended.wait(10)
                else:
                    stream.sendall(self._reply)

    def close(self) -> None:
        self._ended.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        self._listener.close()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def planted(
    reply: bytes | None, context: ssl.SSLContext | None = None, *, all_interfaces: bool = False
) -> Iterator[Planted]:
    """Run one; with None it never answers, with nothing it hangs up."""
    listener = listen(0) if all_interfaces else socket.create_server(("127.0.0.1", 0))
    server = Planted(listener, reply, context)
    try:
        yield server
    finally:
        server.close()
