"""Bodies as a real gunicorn, with its synchronous worker, and wsgiref send them: as those of the bare app."""

from __future__ import annotations

import http.client
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.handlers import SimpleHandler

import pytest
from werkzeug.test import create_environ

from .real.client import Answer
from .real.client import answers
from .real.client import send
from .real.programs import eventually
from .real.programs import free_port
from .real.programs import running
from .served_bodies import create_app
from .served_bodies import FILE
from .served_bodies import PAUSE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from flask import Flask

    from .conftest import Observed

pytest.importorskip("gunicorn", reason="gunicorn is not installed")

CONTENT = FILE.read_bytes()

PATHS = ["/file", "/list", "/stream", "/sized", "/passed-through", "/extra/written", "/extra/bare-list"]

CHANGING = ("date", "x-request-id", "connection", "keep-alive")


class Server:
    """The observed app and the bare one, each on a port, and the records of the first."""

    def __init__(self, observed_port: int, bare_port: int, log: Path) -> None:
        self.observed_port = observed_port
        self.bare_port = bare_port
        self._log = log

    def records(self, request_id: str) -> list[dict[str, object]]:
        """The final records of the request with this id; the server writes them when the client is served already."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [r for r in map(json.loads, lines) if (r["event"], r["request_id"]) == ("request_finished", request_id)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("served")
    observed_port, bare_port = free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "OBSERVABILITY_"))} | {
        "OBSERVABILITY_AUDIT_PATH": str(directory / "audit.log"),
        "OBSERVABILITY_ERROR_JOURNAL_PATH": str(directory / "journal.log"),
        "OBSERVABILITY_LOG_STREAM": str(directory / "app.json"),
        "XDG_RUNTIME_DIR": str(directory),
    }

    def command(app: str, port: int) -> list[str]:
        root = str(Path(__file__).parents[1])
        gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--pythonpath", root]
        return [*gunicorn, "--worker-class", "sync", "--workers", "1", f"tests.served_bodies:{app}"]

    with (
        running(
            command("create_app()", observed_port),
            name="observed",
            directory=directory,
            ready=lambda: answers(observed_port, "/list"),
            env=environment,
        ),
        running(
            command("bare_app()", bare_port),
            name="bare",
            directory=directory,
            ready=lambda: answers(bare_port, "/list"),
            env=environment,
        ),
    ):
        yield Server(observed_port, bare_port, directory / "app.json")


def steady(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    return answer.status, {k: v for k, v in answer.headers.items() if k not in CHANGING}, answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_gunicorn_sends_what_it_sends_for_the_bare_app(server: Server, path: str, method: str) -> None:
    bare = send(server.bare_port, path, method=method)
    assert bare.status == 200
    assert steady(send(server.observed_port, path, method=method)) == steady(bare)


@pytest.mark.parametrize(
    ("headers", "status", "body", "length"),
    [
        ({}, 200, CONTENT, len(CONTENT)),
        ({"Range": "bytes=10-29"}, 206, CONTENT[10:30], 20),
        ({"Range": "bytes=-7"}, 206, CONTENT[-7:], 7),
        ({"Range": "bytes=10-29", "If-Range": '"v1"'}, 206, CONTENT[10:30], 20),
        ({"Range": "bytes=10-29", "If-Range": '"v0"'}, 200, CONTENT, len(CONTENT)),
    ],
    ids=["whole", "range", "suffix range", "range of this version", "range of another version"],
)
def test_a_file_is_sent_through_the_servers_file_wrapper(
    server: Server, headers: dict[str, str], status: int, body: bytes, length: int
) -> None:
    answer = send(server.observed_port, "/file", headers=headers)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (status, body, str(length))
    assert answer.headers["x-file-wrapper"] == str(status == 200)  # Werkzeug cuts a range out of it
    (record,) = finished(server, answer)
    assert record["http.response.body.size"] == length


@pytest.mark.parametrize(
    ("headers", "status"), [({"If-None-Match": '"v1"'}, 304), ({"Range": "bytes=9999999-"}, 416)], ids=["304", "416"]
)
def test_a_file_that_is_not_sent_is_told_without_being_a_client_that_left(
    server: Server, headers: dict[str, str], status: int
) -> None:
    answer = send(server.observed_port, "/file", headers=headers)
    assert answer.status == status
    assert answer.headers.get("content-length") == send(server.bare_port, "/file", headers=headers).headers.get(
        "content-length"
    )
    (record,) = finished(server, answer)
    assert record["http.response.status_code"] == status
    assert "client_disconnected" not in record


def finished(server: Server, answer: Answer) -> list[dict[str, object]]:
    request_id = answer.headers["x-request-id"]
    return eventually(lambda: server.records(request_id), timeout=10, what=f"the record of {request_id}")


@pytest.mark.parametrize("path", ["/stream", "/sized"])
def test_a_stream_arrives_chunk_by_chunk_and_lasts_as_long_as_its_pauses(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.observed_port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    first, arrived = response.read(1), time.monotonic()
    rest = response.read()
    assert (first, rest) == (b"a", b"bc")
    assert time.monotonic() - arrived > 1.5 * PAUSE_SECONDS
    request_id = response.headers["X-Request-ID"]
    connection.close()
    (record,) = eventually(lambda: server.records(request_id), timeout=10, what="its record")
    assert record["duration_seconds"] >= 3 * PAUSE_SECONDS
    assert record["http.response.body.size"] == 3


def by_wsgiref(app: Flask, path: str) -> tuple[list[bytes], bytes]:
    """Return the status line with the headers, in order, and the body."""
    answer = io.BytesIO()
    environ = create_environ(path)
    handler = SimpleHandler(io.BytesIO(), answer, io.StringIO(), environ, multithread=False)
    handler.run(app)
    head, _, body = answer.getvalue().partition(b"\r\n\r\n")
    changing = (b"x-request-id:", b"date:")
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(changing)], body


@pytest.mark.parametrize("path", ["/list", "/sized", "/stream", "/extra/written", "/extra/bare-list"])
def test_wsgiref_sends_what_it_sends_for_the_bare_app(observe: Callable[..., Observed], path: str) -> None:
    observed = observe(create_app(observed=False))
    assert by_wsgiref(observed.app, path) == by_wsgiref(create_app(observed=False), path)
    assert observed.record["url.path"] == path


@pytest.mark.parametrize("body", [[b"alone"], (b"alone",), []], ids=["list", "tuple", "empty"])
def test_wsgiref_gives_a_list_body_the_content_length_that_it_gives_without_us(
    observed: Observed, body: list[bytes]
) -> None:
    def answer(environ: dict[str, object], start_response: object) -> list[bytes]:
        start_response("200 OK", [])  # type: ignore[operator]
        return body

    observed.app.wsgi_app.wsgi_app = answer  # type: ignore[attr-defined]
    head, sent = by_wsgiref(observed.app, "/")
    assert (head, sent) == by_wsgiref(answer, "/")  # type: ignore[arg-type]
    assert f"Content-Length: {len(sent)}".encode() in head
