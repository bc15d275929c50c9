"""An app behind WsgiToAsgi under uvicorn, which runs it on another thread than the one that answers."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .client import answers
from .client import send
from .programs import eventually
from .programs import free_port
from .programs import running
from .programs import unavailable
from .served import environment_of
from .served import HERE
from .served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

CLIENTS = 4
ROUNDS = 6
PATHS = ("/json", "/error", "/streamed", "/page/7")
ROUTES = {"/page/7": "/page/<int:number>"}
COUNT = re.compile(r'http_server_request_duration_seconds_count\{.*?http_route="(.*?)".*?\} (\d+)')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for module in ("uvicorn", "asgiref"):
        if importlib.util.find_spec(module) is None:
            unavailable(f"no {module}; pip install {module}")
    directory, port = tmp_path_factory.mktemp("asgi"), free_port()
    environment = environment_of(directory)
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], *filter(None, sys.path)])
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "asgi_app:create_app", "--app-dir", str(HERE)),
        *("--port", str(port), "--log-level", "warning"),
    ]
    with running(
        command, name="uvicorn", directory=directory, ready=lambda: answers(port, "/metrics"), env=environment
    ) as program:
        yield Served(port, directory, program)


def finished(server: Served, prefix: str) -> list[dict[str, object]]:
    records = [record for record in server.records if record["event"] == "request_finished"]
    return [record for record in records if str(record["request_id"]).startswith(prefix)]


def test_every_request_is_told_once_in_its_own_context(server: Served) -> None:
    def visit(client: int) -> None:
        for step in range(ROUNDS):
            for number, path in enumerate(PATHS):
                request_id = f"visit-{client}.{step}.{number}"
                traceparent = f"00-{client + 1:030x}{step:02x}-{'b' * 16}-01"
                answer = send(server.port, path, headers={"X-Request-ID": request_id, "traceparent": traceparent})
                seen[request_id] = answer.status, answer.headers["x-request-id"], traceparent[3:35], path

    seen: dict[str, tuple[int, str, str, str]] = {}
    threads = [threading.Thread(target=visit, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == CLIENTS * ROUNDS * len(PATHS)
    told = eventually(
        lambda: found if len(found := finished(server, "visit-")) >= len(seen) else [], timeout=10, what="records"
    )
    assert Counter(str(record["request_id"]) for record in told) == Counter(seen.keys())
    for record in told:
        status, echoed, trace_id, path = seen[str(record["request_id"])]
        assert echoed == record["request_id"]
        assert (record["http.response.status_code"], record["trace_id"]) == (status, trace_id)
        assert record["http.route"] == ROUTES.get(path, path)
        if path == "/streamed":
            assert float(str(record["duration_seconds"])) > 0.08
    counted = Counter[str]()
    for route, times in COUNT.findall(server.send("/metrics").text):
        counted[route] += int(times)
    each = CLIENTS * ROUNDS
    routes = [ROUTES.get(path, path) for path in PATHS]
    assert {route: counted[route] for route in routes} == dict.fromkeys(routes, each)
    assert sum("accessed /error" in line for line in server.audit_lines) == each


def test_a_client_that_leaves_is_told_once_and_nobody_stays_in_flight(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /streamed HTTP/1.1\r\nHost: shop\r\nX-Request-ID: left-1\r\n\r\n")
        assert connection.recv(16) != b""
    assert server.send("/json", headers={"X-Request-ID": "after-1"}).status == 200
    (record,) = eventually(lambda: finished(server, "left-"), timeout=10, what="the record of who left")
    assert record["http.route"] == "/streamed"
    (after,) = finished(server, "after-")
    assert after["trace_id"] != record["trace_id"]
    active = re.findall(r"http_server_active_requests\{.*\} (\S+)", server.send("/metrics").text)
    assert active
    assert set(map(float, active)) == {0.0}
