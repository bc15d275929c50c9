"""What is promised in the README under Security, tried."""

from __future__ import annotations

import ast
import contextlib
import errno
import hmac
import os
import resource
import shutil
import socket
import threading
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import create_environ

import flask_signal_observability
from flask_signal_observability import ConfigurationError
from flask_signal_observability import Sink

from .site import answer
from .site import serve
from .site import SHAPES
from .site import site

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from ..conftest import Observed

    Observe = Callable[..., Observed]

PACKAGE = Path(flask_signal_observability.__file__).parent
CANARY = "canary-4711"
DANGEROUS_NAMES = frozenset({"eval", "exec", "compile", "__import__", "input"})
DANGEROUS_MODULES = frozenset({"pickle", "marshal", "shelve", "dill", "cPickle", "yaml", "telnetlib"})


# No pickle, no eval, no shell.


def calls_and_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name in DANGEROUS_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in DANGEROUS_MODULES:
            yield f"import {node.module}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in DANGEROUS_NAMES:
                yield f"{node.func.id}()"
            if isinstance(node.func, ast.Attribute) and node.func.attr in {"system", "popen"}:
                yield f"{node.func.attr}()"
            yield from (
                "shell="
                for keyword in node.keywords
                if keyword.arg == "shell" and getattr(keyword.value, "value", True) is not False
            )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_unpickles_evaluates_or_calls_a_shell(path: Path) -> None:
    assert list(calls_and_imports(ast.parse(path.read_text()))) == []


def test_the_search_finds_what_it_looks_for() -> None:
    found = list(calls_and_imports(ast.parse("import pickle\neval('1')\nos.system('x')\nrun('x', shell=True)")))
    assert sorted(found) == ["eval()", "import pickle", "shell=", "system()"]


# Who reads the metrics: the whole way, not the rule alone.

PEERS = {"127.0.0.1": 200, "::1": 200, "::ffff:10.0.0.1": 200, "": 200, "8.8.8.8": 403, "::ffff:8.8.8.8": 403}
SPOOFS: dict[str, str] = {
    "HTTP_X_FORWARDED_FOR": "127.0.0.1",
    "HTTP_FORWARDED": "for=127.0.0.1",
    "HTTP_X_REAL_IP": "127.0.0.1",
    "HTTP_VIA": "1.1 localhost",
    "HTTP_HOST": "localhost",
    "HTTP_X_ORIGINAL_URL": "/metrics",
}
CLOSES = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA"})


def scrape(app: Any, peer: str, path: str = "/metrics", method: str = "GET", **environ: str) -> tuple[int, bytes]:
    status, *_, body = serve(app, {**create_environ(path, method=method), "REMOTE_ADDR": peer, **environ})
    return int(status[:3]), body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_private_metrics_open_to_peers_nearby_whatever_header_is_spoofed(observe: Observe, method: str) -> None:
    app = observe().app
    for peer, status in PEERS.items():
        assert scrape(app, peer, method=method)[0] == status, peer
        for header, value in SPOOFS.items():
            expected = 403 if header in CLOSES else status
            code, body = scrape(app, peer, method=method, **{header: value})
            assert code == expected, (peer, header)
            assert code == 200 or b"flask_app" not in body


@pytest.mark.parametrize("path", ["/metrics/", "//metrics", "/metrics/x", "/METRICS", "/x/../metrics"])
def test_no_other_spelling_of_the_path_is_the_metrics(observe: Observe, path: str) -> None:
    assert b"http_server_active_requests" not in scrape(observe(metrics_access="open").app, "127.0.0.1", path)[1]


@pytest.mark.parametrize(("peer", "status"), PEERS.items())
def test_the_rule_holds_below_a_mount_prefix(observe: Observe, peer: str, status: int) -> None:
    mounted = DispatcherMiddleware(Flask("front"), {"/shop": observe().app})
    assert scrape(mounted, peer, "/shop/metrics")[0] == status
    assert scrape(mounted, peer, "/metrics")[0] == 404


def test_the_port_of_its_own_has_the_same_rule(observe: Observe, free_port: int) -> None:
    observed = observe(metrics_port=free_port, metrics_access="token:s3cret")
    server = observed.pipeline.metrics_server
    try:
        for head, status in ((b"", b"401"), (b"Authorization: Bearer s3cret\r\n", b"200")):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
                client.sendall(b"GET /anything HTTP/1.0\r\n" + head + b"\r\n")
                assert client.makefile("rb").readline().split()[1] == status
    finally:
        server.close()
        server._server.server_close()


@pytest.mark.parametrize(
    "sent", ["", "s", "s3cre", "s3cret ", "S3cret", "s3cret" * 1000, "s3cre\xe9", "\xff" * 6, "s3cre\x00", "%73"]
)
def test_a_token_is_compared_whole_whatever_its_length_or_script(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    code, body = scrape(observe(metrics_access="token:s3cret").app, "127.0.0.1", HTTP_AUTHORIZATION=f"Bearer {sent}")
    assert code == (200 if sent.strip() == "s3cret" else 401)
    # The comparison that takes the same time for each text is the only one.
    assert [expected for _, expected in compared] == [b"s3cret"]
    assert code == 200 or b"s3cret" not in body


# Files are not followed through symbolic links.


@pytest.mark.parametrize("key", ["audit_path", "error_journal_path", "log_stream"])
def test_a_file_of_ours_is_not_written_through_a_symbolic_link(observe: Observe, tmp_path: Path, key: str) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before\n")
    link.symlink_to(target)
    observed = observe(site().app, strict=False, **{key: str(link)})
    assert answer(observed.app, "json")[0] == "200 OK"
    assert answer(observed.app, "broken")[0].startswith("500")
    assert target.read_text() == "before\n"
    assert observed.value("observability_errors_total") > 0


@pytest.mark.parametrize("suffix", ["", ".1", ".lock", ".heads"])
def test_what_stands_beside_the_audit_file_is_not_written_through_a_symbolic_link(
    observe: Observe, tmp_path: Path, suffix: str
) -> None:
    target, path = tmp_path / "target", tmp_path / "audit.log"
    target.write_text("before\n")
    for name in {f"audit.log{suffix}", f".audit.log{suffix}"} if suffix else {"audit.log"}:
        (tmp_path / name).symlink_to(target)
    os.utime(target, (1000, 1000))
    observed = observe(
        site().app,
        strict=False,
        audit_path=str(path),
        audit_rotate_bytes=4096,
        audit_rotate_seconds=60,
        audit_chain=True,
    )
    bare = site().app
    for shape in SHAPES:
        assert answer(observed.app, shape) == answer(bare, shape)
    for sink in observed.pipeline.sinks:
        getattr(sink, "close", int)()
    assert target.read_text() == "before\n"
    assert target.stat().st_mtime == 1000


# Files that cannot be written.


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest:
        limit = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EROFS", "EPIPE", "EDQUOT", "ENXIO"])
@pytest.mark.parametrize("call", ["open", "write"])
def test_a_disk_that_fails_changes_no_answer_and_is_counted(
    observe: Observe, monkeypatch: pytest.MonkeyPatch, name: str, call: str
) -> None:
    bare = {shape: answer(site().app, shape) for shape in SHAPES}
    observed = observe(site().app, strict=False)
    number = getattr(errno, name)

    def fail(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        given = {shape: answer(observed.app, shape) for shape in SHAPES}
    assert given == bare
    assert observed.value("observability_errors_total", sink="audit", stage="finish") == len(SHAPES)
    assert observed.value("flask_audit_records_total", outcome="lost") == len(SHAPES)
    assert answer(observed.app, "json") == bare["json"]
    assert observed.value("flask_audit_records_total", outcome="written") > 0


@pytest.mark.parametrize("kind", ["deleted directory", "full device", "no descriptors"])
def test_a_place_that_cannot_be_written_changes_no_answer_and_is_counted(
    observe: Observe, tmp_path: Path, kind: str
) -> None:
    bare = {shape: answer(site().app, shape) for shape in SHAPES}
    directory = tmp_path / "gone"
    directory.mkdir()
    path = "/dev/full" if kind == "full device" else str(directory / "audit.log")
    observed = observe(site().app, strict=False, audit_path=path, error_journal_path=path)
    if kind == "deleted directory":
        shutil.rmtree(directory)
    with no_descriptors_left() if kind == "no descriptors" else contextlib.nullcontext():
        given = {shape: answer(observed.app, shape) for shape in SHAPES}
    assert given == bare
    assert observed.value("observability_errors_total", sink="audit", stage="finish") == len(SHAPES)
    assert observed.value("http_server_active_requests") == 0


def test_closed_audit_answers_503_where_a_sinks_answer_fails(observe: Observe) -> None:
    class Refusing(Sink):
        name = "mine"

        def answer(self, record: object, unix_ns: int) -> None:
            raise OSError(errno.ENOSPC, "full")

    observed = observe(site().app, strict=False, sinks=[Refusing()], audit_on_error="closed", metrics_path=None)
    assert answer(observed.app, "json")[0] == "503 SERVICE UNAVAILABLE"
    assert observed.value("observability_errors_total", sink="audit", stage="answer") == 1
    assert observed.value("http_server_active_requests") == 0


# One request that hangs is one request.


@pytest.mark.parametrize("stage", ["open", "attach", "start", "event", "finish", "detach"])
def test_a_sink_that_hangs_holds_up_no_other_request(observe: Observe, stage: str) -> None:
    hanging, release = threading.Event(), threading.Event()
    slow = threading.current_thread()

    def wait(*_: object) -> None:
        if threading.current_thread() is slow:
            hanging.set()
            assert release.wait(60)

    observed = observe(site().app, sinks=[type("Mine", (Sink,), {stage: wait})()])
    given: list[Any] = []
    slow = threading.Thread(target=lambda: given.append(answer(observed.app, "broken")))
    slow.start()
    assert hanging.wait(60)
    others = [answer(observed.app, shape)[0] for shape in ("json", "template", "chunks", "broken")]
    assert scrape(observed.app, "127.0.0.1")[0] == 200
    assert given == []
    release.set()
    slow.join(60)
    assert others == ["200 OK", "200 OK", "200 OK", given[0][0]]


# No secret in what is written.


def test_a_secret_in_a_watched_payload_is_in_no_output(observe: Observe, tmp_path: Path) -> None:
    made = site()
    made.payload = lambda: {
        "amount": CANARY,
        "token": CANARY,
        "deep": {"password": CANARY},
        "note": f"Bearer {CANARY}x1",
    }
    observed = observe(made.app, redact=("amount",), audit_format="json", audit_chain=True, strict=False)
    observed.observability.watch(
        made.paid,
        count="paid_total",
        labels={"token": ("a",)},
        span_event=True,
        log="info",
        audit="{token} {amount} {note} {deep.password}",
        fields=("amount", "token", "deep.password", "note"),
    )
    assert answer(observed.app, "watched")[0] == "200 OK"
    held = [span.to_json() for span in observed.spans]
    held += [observed.stream.getvalue(), scrape(observed.app, "127.0.0.1")[1].decode()]
    files = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert "paid" in "".join(held)
    assert any("paid" in text or "REDACTED" in text for text in files)
    assert [text for text in (*held, *files) if CANARY in text] == []


def test_a_configuration_error_masks_the_secret_of_the_metrics(observe: Observe) -> None:
    with pytest.raises(ConfigurationError) as caught:
        observe(metrics_access=f"tokn:{CANARY}")
    assert CANARY not in str(caught.value)
