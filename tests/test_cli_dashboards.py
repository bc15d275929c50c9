"""``flask observability dashboards``. A scripted server stands for Grafana, which is no Python package to install."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner

from flask_signal_observability.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

CHECKOUT = Path(__file__).parent.parent
FILES = [
    "RUNBOOK.md",
    *(f"{name}.json" for name in ("errors", "overview", "route")),
    *(f"rules/{name}.yaml" for name in ("alerts", "recording")),
    *(f"{name}.json" for name in ("telemetry", "workers")),
]
UIDS = [f"fso-{name}" for name in ("errors", "overview", "route", "telemetry", "workers")]


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"GRAFANA_TOKEN": None, **environ}).invoke(cli, ["dashboards", *arguments])


def written(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def dashboard(directory: Path, name: str = "route") -> dict[str, Any]:
    return json.loads((directory / f"{name}.json").read_text())  # type: ignore[no-any-return]


# export


def test_export_writes_what_is_committed(tmp_path: Path) -> None:
    result = run("export", str(tmp_path / "new" / "grafana"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert written(tmp_path / "new" / "grafana") == FILES
    for name in FILES:
        assert (tmp_path / "new" / "grafana" / name).read_text() == (CHECKOUT / "dashboards" / name).read_text()


def test_export_names_what_it_wrote(tmp_path: Path) -> None:
    assert f"written: {tmp_path / 'route.json'}\n" in run("export", str(tmp_path)).stdout
    told = json.loads(run("export", str(tmp_path), "--json").stdout)
    assert sorted(told["written"]) == sorted(str(tmp_path / name) for name in FILES)


def test_export_leaves_a_file_that_differs_alone_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "route.json").write_text("mine")
    result = run("export", str(tmp_path))
    assert result.exit_code == 1
    assert "route.json: there and different; --force writes over" in result.stderr
    assert written(tmp_path) == ["route.json"]


def test_export_with_force_writes_over_it(tmp_path: Path) -> None:
    (tmp_path / "route.json").write_text("mine")
    assert run("export", str(tmp_path), "--force").exit_code == 0
    assert dashboard(tmp_path)["uid"] == "fso-route"


def test_export_twice_changes_nothing(tmp_path: Path) -> None:
    run("export", str(tmp_path))
    assert run("export", str(tmp_path)).exit_code == 0


def test_export_binds_the_only_data_source_that_can_be_chosen(tmp_path: Path) -> None:
    run("export", str(tmp_path), "--datasource", "Prometheus (EU)")
    (variable,) = [v for v in dashboard(tmp_path)["templating"]["list"] if v["type"] == "datasource"]
    assert variable["regex"] == r"/^Prometheus\ \(EU\)$/"
    assert variable["current"] == {"text": "Prometheus (EU)", "value": "Prometheus (EU)"}
    panel = next(panel for panel in dashboard(tmp_path)["panels"] if panel["type"] != "row")
    assert panel["datasource"]["uid"] == "${datasource}"


ADDRESSES = ("--grafana-url", "https://example.org/grafana/", "--runbook-url", "https://example.org/wiki/RUNBOOK.md")


def links(directory: Path) -> dict[str, set[str]]:
    """What stands before ``/d/`` and before ``#`` in the alerts."""
    groups = yaml.safe_load((directory / "rules" / "alerts.yaml").read_text())["groups"]
    notes = [rule["annotations"] for group in groups for rule in group["rules"]]
    assert notes
    return {
        "dashboards": {note["dashboard_url"].partition("/d/fso-")[0] for note in notes},
        "runbook": {note["runbook_url"].partition("#flask")[0] for note in notes},
    }


def test_export_leads_the_alerts_to_grafana_and_to_the_runbook(tmp_path: Path) -> None:
    assert run("export", str(tmp_path), *ADDRESSES).exit_code == 0
    assert links(tmp_path) == {
        "dashboards": {"https://example.org/grafana"},
        "runbook": {"https://example.org/wiki/RUNBOOK.md"},
    }


def test_export_with_one_address_leaves_the_other_links(tmp_path: Path) -> None:
    assert run("export", str(tmp_path), *ADDRESSES[:2]).exit_code == 0
    assert links(tmp_path) == {"dashboards": {"https://example.org/grafana"}, "runbook": {"dashboards/RUNBOOK.md"}}


def test_export_changes_nothing_else_of_the_alerts(tmp_path: Path) -> None:
    run("export", str(tmp_path), *ADDRESSES)
    changed = (tmp_path / "rules" / "alerts.yaml").read_text()
    for address, before in ((ADDRESSES[1].rstrip("/"), ""), (ADDRESSES[3], "dashboards/RUNBOOK.md")):
        changed = changed.replace(address, before)
    assert changed == (CHECKOUT / "dashboards" / "rules" / "alerts.yaml").read_text()


@pytest.mark.parametrize("option", ["--grafana-url", "--runbook-url"])
@pytest.mark.parametrize(
    "url", ["grafana.example.org", "https://u:p@example.org", "https://e.org/{{ x }}", "https://e.org/#a", "file:///a"]
)
def test_export_refuses_an_address_that_makes_no_link(tmp_path: Path, option: str, url: str) -> None:
    result = run("export", str(tmp_path), option, url)
    assert (result.exit_code, "cannot begin a " in result.stderr) == (1, True)
    assert written(tmp_path) == []


def test_export_says_which_directory_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("export", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    assert f"cannot export into {tmp_path / 'file' / 'below'}: " in result.stderr


def test_an_error_is_one_object_with_json(tmp_path: Path) -> None:
    (tmp_path / "route.json").write_text("mine")
    result = run("export", str(tmp_path), "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "there and different" in json.loads(result.stdout)["error"]


def flask_command(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FLASK_")}
    if path is not None:
        environ["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-m", "flask", "observability", "dashboards", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_flask_command_needs_no_app(tmp_path: Path) -> None:
    done = flask_command("export", "grafana", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert written(tmp_path / "grafana") == FILES


def test_an_installed_wheel_exports_the_same(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, capture_output=True, check=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    done = flask_command("export", "grafana", cwd=tmp_path, path=tmp_path / "installed")
    assert (done.returncode, done.stderr) == (0, "")
    assert written(tmp_path / "grafana") == FILES
    assert written(tmp_path / "installed" / "flask_signal_observability" / "_dashboards") == FILES


def test_without_its_files_the_package_says_so(tmp_path: Path) -> None:
    package = CHECKOUT / "flask_signal_observability"
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__", "_dashboards"))
    done = flask_command("export", "grafana", cwd=tmp_path, path=tmp_path)
    assert done.returncode == 1
    assert f"there are no dashboards in {tmp_path / package.name}: install the package from its wheel" in done.stderr


@pytest.mark.parametrize("command", [(), ("export",), ("push",)])
def test_help_says_how(command: tuple[str, ...]) -> None:
    told = run(*command, "--help").stdout
    assert ("Examples:" in told) == bool(command)
    assert "Exit codes: 0 done" in run("--help").stdout


# push


class Grafana:
    """Answers every POST with what it was told, and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.refuses_from: int | None = None
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.stalls = threading.Event()
        self.stalls.set()
        self.got: list[tuple[str, str, dict[str, Any]]] = []

    def answer(self, sent: dict[str, Any]) -> bytes:
        if self.body is not None:
            return self.body
        uid = sent["dashboard"]["uid"]
        return json.dumps({"uid": uid, "version": 3, "url": f"/grafana/d/{uid}/flask", "status": "success"}).encode()


@contextmanager
def serving(grafana: Grafana, context: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            grafana.got.append((self.path, self.headers["Authorization"], sent))
            grafana.stalls.wait(10)
            content = grafana.answer(sent)
            refused = grafana.refuses_from is not None and len(grafana.got) >= grafana.refuses_from
            self.send_response(500 if refused else grafana.status)
            for name, value in {"Content-Length": str(len(content)), **grafana.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that gave up is none."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'http' if context is None else 'https'}://localhost:{server.server_port}"
        finally:
            grafana.stalls.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def grafana() -> Grafana:
    return Grafana()


@pytest.fixture
def url(grafana: Grafana) -> Iterator[str]:
    with serving(grafana) as address:
        yield address


def test_push_writes_the_five_over_what_is_there(grafana: Grafana, url: str) -> None:
    result = run("push", "--url", f"{url}/grafana/", "--token", "glsa_secret")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [sent["dashboard"]["uid"] for _, _, sent in grafana.got] == UIDS
    for path, authorization, sent in grafana.got:
        assert (path, authorization) == ("/grafana/api/dashboards/db", "Bearer glsa_secret")
        assert sent["overwrite"] is True
        assert sent["dashboard"]["id"] is None
        assert "folderUid" not in sent
    assert result.stdout.splitlines() == [f"pushed: {url}/grafana/d/{uid}/flask" for uid in UIDS]


def test_push_takes_the_token_from_the_environment_and_names_a_folder(grafana: Grafana, url: str) -> None:
    result = run("push", "--url", url, "--folder", "flask-folder", "--datasource", "Mimir", GRAFANA_TOKEN="glsa_env")
    assert result.exit_code == 0
    assert {(authorization, sent["folderUid"]) for _, authorization, sent in grafana.got} == {
        ("Bearer glsa_env", "flask-folder")
    }
    assert grafana.got[0][2]["dashboard"]["templating"]["list"][0]["regex"] == "/^Mimir$/"


def test_push_with_json_prints_one_object(grafana: Grafana, url: str) -> None:
    told = json.loads(run("push", "--url", url, "--token", "t", "--json").stdout)
    assert [page["uid"] for page in told["pushed"]] == UIDS
    assert told["pushed"][0] == {"uid": "fso-errors", "version": 3, "url": f"{url}/grafana/d/fso-errors/flask"}


def test_push_with_json_tells_what_was_pushed_before_it_failed(grafana: Grafana, url: str) -> None:
    grafana.refuses_from = 3
    result = run("push", "--url", url, "--token", "t", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (1, "")
    assert [page["uid"] for page in told["pushed"]] == UIDS[:2]
    assert "answered 500" in told["error"]


def test_push_refuses_an_address_with_a_user_and_does_not_repeat_it(grafana: Grafana, url: str) -> None:
    result = run("push", "--url", url.replace("//", "//admin:hunter2@"), "--token", "t")
    assert (result.exit_code, "names a user: leave it out" in result.stderr) == (1, True)
    assert "hunter2" not in result.output
    assert grafana.got == []


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "Invalid API key", "answered 401 (Invalid API key): the token is unknown or has expired"),
        (403, "Access denied", "answered 403 (Access denied): the token may not write dashboards there"),
        (404, "Not found", "answered 404 (Not found): there is no Grafana, or no such folder"),
        (412, "name-exists", "answered 412 (name-exists): a dashboard of the same title is in that folder"),
        (500, "database is locked", "answered 500 (database is locked)."),
    ],
)
def test_push_says_what_grafana_refused_and_what_to_do(
    grafana: Grafana, url: str, status: int, message: str, remedy: str
) -> None:
    grafana.status, grafana.body = status, json.dumps({"message": message}).encode()
    result = run("push", "--url", url, "--token", "glsa_secret")
    assert result.exit_code == 1
    assert f"Error: {url} {remedy}" in result.stderr
    assert "glsa_secret" not in result.output
    assert len(grafana.got) == 1


@pytest.mark.parametrize("body", [b"<html>no such page</html>", b"[]", b'{"error": 1}', b""])
def test_a_refusal_that_says_nothing_is_still_told(grafana: Grafana, url: str, body: bytes) -> None:
    grafana.status, grafana.body = 404, body
    assert "answered 404: there is no Grafana" in run("push", "--url", url, "--token", "t").stderr


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"", b"\xff"])
def test_push_says_that_an_answer_is_no_json(grafana: Grafana, url: str, body: bytes) -> None:
    grafana.body = body
    result = run("push", "--url", url, "--token", "t")
    assert (result.exit_code, "answered no JSON: is that Grafana" in result.stderr) == (1, True)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null"])
def test_push_says_that_an_answer_is_not_grafanas(grafana: Grafana, url: str, body: bytes) -> None:
    grafana.body = body
    result = run("push", "--url", url, "--token", "t")
    assert (result.exit_code, "which no Grafana does" in result.stderr) == (1, True)


def test_push_follows_no_redirect_with_its_token(grafana: Grafana, url: str) -> None:
    grafana.status, grafana.headers = 302, {"Location": f"{url}/elsewhere"}
    result = run("push", "--url", url, "--token", "t")
    assert result.exit_code == 1
    assert f"points to '{url}/elsewhere': give that Grafana's address itself" in result.stderr
    assert [path for path, _, _ in grafana.got] == ["/api/dashboards/db"]


def test_push_says_that_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run("push", "--url", url, "--token", "t")
    assert (result.exit_code, f"cannot reach {url}: " in result.stderr) == (1, True)
    assert "refused" in result.stderr


def test_push_waits_no_longer_than_it_was_told(grafana: Grafana, url: str) -> None:
    grafana.stalls.clear()
    result = run("push", "--url", url, "--token", "t", "--timeout", "0.2")
    assert (result.exit_code, f"{url} did not answer within 0.2 s" in result.stderr) == (1, True)


@pytest.mark.parametrize("url", ["grafana.example.org", "file:///etc/passwd", "https://", "http://[", "http://a:b"])
def test_push_refuses_what_is_no_address(url: str) -> None:
    result = run("push", "--url", url, "--token", "t")
    assert result.exit_code == 1
    assert "is no address of a Grafana" in result.stderr


def test_push_refuses_a_token_that_cannot_be_a_header(url: str) -> None:
    result = run("push", "--url", url, "--token", "glsa_secret\n")
    assert (result.exit_code, "the token holds a line break" in result.stderr) == (1, True)
    assert "glsa_secret" not in result.output


def test_push_without_a_token_is_wrong_usage() -> None:
    result = run("push", "--url", "http://localhost:3000")
    assert (result.exit_code, "give --token, or set GRAFANA_TOKEN" in result.stderr) == (2, True)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return tmp_path / "certificate.pem"


@pytest.fixture
def secure_url(grafana: Grafana, certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with serving(grafana, context) as address:
        yield address


def test_push_sends_nothing_to_a_certificate_that_is_not_trusted(grafana: Grafana, secure_url: str) -> None:
    result = run("push", "--url", secure_url, "--token", "t")
    assert (result.exit_code, "has a certificate that is not trusted" in result.stderr) == (1, True)
    assert grafana.got == []


def test_push_trusts_the_authority_that_the_environment_names(
    grafana: Grafana, secure_url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    result = run("push", "--url", secure_url, "--token", "t")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(grafana.got) == 5
