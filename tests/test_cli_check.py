"""``flask observability check``: a fault is planted, and found with its remedy."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import ssl
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client import Counter
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_signal_observability import Observability
from flask_signal_observability.audit.key import AuditKey
from flask_signal_observability.cli import cli
from flask_signal_observability.providers import LocalTracerProvider

from .chained_file import ChainedFile
from .planted_server import answer
from .planted_server import planted

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

SECRET = "a secret of 24 characters"
PROGRAM = (
    "from flask.cli import FlaskGroup; from flask_signal_observability.cli import cli; "
    "group = FlaskGroup(); group.add_command(cli); group()"
)
FLASK = [sys.executable, "-c", PROGRAM]
"""The command flask, whether this package is installed or merely there."""
README = (Path(__file__).parent.parent / "README.md").read_text()


class Checked:
    """What ``check --json`` said."""

    def __init__(self, findings: list[dict[str, str]], exit_code: int) -> None:
        self.findings = findings
        self.exit_code = exit_code

    @property
    def faults(self) -> list[tuple[str, str]]:
        return [(finding["level"], finding["subject"]) for finding in self.findings if finding["level"] != "ok"]

    def fault(self, level: str, subject: str) -> str:
        """The only finding that is not ok, with its remedy."""
        assert self.faults == [(level, subject)], self.findings
        (finding,) = (finding for finding in self.findings if finding["level"] != "ok")
        assert finding["remedy"]
        assert self.exit_code == (2 if level == "error" else 0)
        return f"{finding['what']} -> {finding['remedy']}"

    def ok(self, subject: str) -> str:
        found = [each["what"] for each in self.findings if each["subject"] == subject and each["level"] == "ok"]
        return "\n".join(found)


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's, and a directory of one's own for files and workers."""
    for key in list(os.environ):
        if key.startswith(("OTEL_", "OBSERVABILITY_", "GUNICORN_", "WEB_CONC")) or key.lower().endswith("_proxy"):
            monkeypatch.delenv(key)
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Return the function that makes an app, and closes what it has opened."""
    made: list[Flask] = []

    def make(app: Flask | None = None, **settings: Any) -> Flask:
        app = app or Flask("shop", root_path=str(tmp_path))
        objects = {
            "registry": CollectorRegistry(),
            "tracer_provider": LocalTracerProvider(shutdown_on_exit=False),
            "log_stream": io.StringIO(),
        }
        Observability(app, **{**objects, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        for sink in app.extensions["observability"].sinks:
            if hasattr(sink, "close"):
                sink.close()


def check(app: Flask | Callable[[], Flask] | None, *arguments: str) -> Checked:
    script = ScriptInfo(create_app=(lambda: app) if isinstance(app, Flask) else app)
    result = CliRunner().invoke(cli, ["check", "--json", "--timeout", "1", *arguments], obj=script)
    return Checked(json.loads(result.stdout)["findings"], result.exit_code)


def export_to(monkeypatch: pytest.MonkeyPatch, port: int, scheme: str = "http") -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{scheme}://localhost:{port}")


# A sound app


def test_a_sound_app_has_no_fault(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(answer("200 OK", Date=formatdate(usegmt=True), Content_Type="application/x-protobuf")) as collector:
        export_to(monkeypatch, collector.port)
        checked = check(shop(), "--strict")
    assert (checked.faults, checked.exit_code) == ([], 0)
    assert "an export is taken (200)" in checked.ok("collector")
    assert "agree on the time" in checked.ok("clock")
    assert "/metrics answers and parses: " in checked.ok("metrics")
    assert collector.requests[0].startswith(b"POST /v1/traces HTTP/1.1\r\n")


def test_nothing_is_made_written_or_counted(shop: Callable[..., Flask], tmp_path: Path) -> None:
    app = shop(audit_requests=True)
    before = sorted(tmp_path.rglob("*"))
    first = app.test_client().get("/metrics").text
    check(app)
    assert sorted(tmp_path.rglob("*")) == before
    of_app = re.compile(r"^(?:http|flask|observability)_.*", re.MULTILINE)
    assert of_app.findall(app.test_client().get("/metrics").text) == of_app.findall(first)


def test_what_check_opened_at_the_start_is_closed(shop: Callable[..., Flask], free_port: int) -> None:
    app = shop(metrics_port=free_port)
    assert check(app).faults == []
    assert app.extensions["observability"].metrics_server is None


def test_no_metrics_are_pushed_for_a_process_that_only_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.setenv("OBSERVABILITY_METRICS_PUSH", "1")
    with planted(answer("200 OK")) as collector:
        export_to(monkeypatch, collector.port)
        command = [*FLASK, "--app", "shop", "observability", "check"]
        subprocess.run(command, capture_output=True, timeout=60, check=False)
    sent = [(request.split(b" ", 2)[1], b"Content-Length: 0" in request) for request in collector.requests]
    assert sent == [(b"/v1/traces", True), (b"/v1/metrics", True)]


# The collector


def test_a_closed_port(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    export_to(monkeypatch, free_port)
    told = check(shop()).fault("error", "collector")
    assert f"spans to http://localhost:{free_port}/v1/traces (OTEL_EXPORTER_OTLP_ENDPOINT): the connection is" in told
    assert "-> start it, or mend the port" in told


def test_a_name_that_nobody_has(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.invalid:4318")
    told = check(shop()).fault("error", "collector")
    assert "'collector.invalid' cannot be resolved" in told
    assert "-> mend the host" in told


def test_an_address_that_is_none(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    told = check(shop()).fault("error", "collector")
    assert "the address cannot be used" in told
    assert "-> write it as http://host:4318" in told


@pytest.mark.parametrize(
    ("reply", "what", "remedy"),
    [
        (answer("401 Unauthorized"), ": 401", "OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer …'"),
        (answer("403 Forbidden", "no such tenant"), ": 403 (no such tenant)", "OTEL_EXPORTER_OTLP_HEADERS"),
        (answer("404 Not Found"), ": 404", "OTEL_EXPORTER_OTLP_ENDPOINT is the base"),
        (answer("415 Unsupported Media Type"), ": 415", "Send to 4318"),
        (answer("429 Too Many Requests"), ": 429", "raise its limit, or sample"),
        (answer("500 Internal Server Error"), ": 500", "see its log"),
        (answer("301 Moved", Location="https://new.example/v1/traces"), ": 301", "name https://new.example/v1/traces"),
        (answer("200 OK", "<html>", Content_Type="text/html"), "a web page answers", "mend host, port and path"),
        (b"\0\0\x12\x04\0\0\0\0\0\n", "that is the gRPC port", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        (b"", "closed without an answer", "does it want https://"),
        (b"220 mail.example ESMTP\r\n", "it answers no HTTP", "something else listening"),
        (None, "no answer within 1 s", "is a firewall"),
    ],
)
def test_a_collector_that_takes_nothing(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, reply: bytes | None, what: str, remedy: str
) -> None:
    with planted(reply) as collector:
        export_to(monkeypatch, collector.port)
        told = check(shop()).fault("error", "collector")
    assert what in told.partition(" -> ")[0]
    assert remedy in told.partition(" -> ")[2]


def test_headers_go_along_and_are_not_shown(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret-token")
    with planted(answer("401 Unauthorized")) as collector:
        export_to(monkeypatch, collector.port)
        checked = check(shop())
    assert b"Authorization: Bearer s3cret-token" in collector.requests[0]
    assert "s3cret" not in json.dumps(checked.findings)


def test_a_clock_that_is_wrong(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ago = formatdate(time.time() - 3600, usegmt=True)
    with planted(answer("200 OK", Date=hour_ago)) as collector:
        export_to(monkeypatch, collector.port)
        told = check(shop()).fault("warning", "clock")
    assert re.search(r"36\d\d s ahead of the collector's -> let both follow NTP", told)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for localhost that nobody has signed, and its file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=directory,
        capture_output=True,
        check=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    return context, directory / "certificate.pem"


def test_a_certificate_of_an_unknown_authority(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path]
) -> None:
    with planted(answer("200 OK"), tls[0]) as collector:
        export_to(monkeypatch, collector.port, "https")
        told = check(shop()).fault("error", "collector")
        assert "its certificate is not accepted: self" in told
        assert "-> name its authority: OTEL_EXPORTER_OTLP_CERTIFICATE=" in told
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tls[1]))
        assert check(shop()).faults == []


def test_a_certificate_for_another_name(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tls[1]))
    with planted(answer("200 OK"), tls[0]) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://127.0.0.1:{collector.port}")
        told = check(shop()).fault("error", "collector")
    assert "not accepted" in told
    assert "-> use the name that the certificate is made out to" in told


def test_a_file_of_certificates_that_is_not_there(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    export_to(monkeypatch, 4318, "https")
    told = check(shop()).fault("error", "collector")
    assert "a file of certificates is not there -> mend OTEL_EXPORTER_OTLP_CERTIFICATE" in told


def test_https_to_a_port_without_tls(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(answer("400 Bad Request")) as collector:
        export_to(monkeypatch, collector.port, "https")
        told = check(shop()).fault("error", "collector")
    assert "it does not speak TLS -> write http:// instead of https://" in told


def test_http_to_a_port_with_tls(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path]
) -> None:
    with planted(answer("200 OK"), tls[0]) as collector:
        export_to(monkeypatch, collector.port)
        told = check(shop()).fault("error", "collector")
    assert "https://" in told.partition(" -> ")[2]


def test_grpc_to_a_port_for_http_without_the_exporter_for_it(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with planted(answer("400 Bad Request")) as collector:
        export_to(monkeypatch, collector.port)
        checked = check(shop())
    assert checked.faults == [("error", "tracing"), ("error", "collector")]
    told = json.dumps(checked.findings)
    assert "pip install opentelemetry-exporter-otlp-proto-grpc" in told
    assert "send to 4317, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in told


def test_the_exporter_of_an_app_s_own_provider_is_asked(shop: Callable[..., Flask], free_port: int) -> None:
    http = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = http.OTLPSpanExporter(endpoint=f"http://localhost:{free_port}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    told = check(shop(tracer_provider=provider)).fault("error", "collector")
    provider.shutdown()
    assert f"http://localhost:{free_port}/v1/traces (the app's own exporter): the connection is refused" in told


# Tracing


@pytest.mark.parametrize(
    ("environ", "what", "remedy"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "no spans are made", "unset OTEL_SDK_DISABLED"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "spans have ids and go nowhere", "set it to otlp"),
        ({"OTEL_TRACES_SAMPLER": "always_of"}, "OTEL_TRACES_SAMPLER=always_of is no sampler", "always_off"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "'10%' is no share",
            "a number from 0 to 1",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPIONT": "x"}, "none of OpenTelemetry's", "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?"),
    ],
)
def test_a_variable_that_does_not_do_what_is_meant(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], what: str, remedy: str
) -> None:
    app = shop()
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    told = check(app).fault("warning", "tracing")
    assert what in told.partition(" -> ")[0]
    assert remedy in told.partition(" -> ")[2]


def test_an_exporter_that_is_not_installed(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    told = check(shop()).fault("error", "tracing")
    assert "the span exporter 'zipkin' is not installed" in told
    assert "-> pip install opentelemetry-exporter-zipkin" in told


def test_an_exporter_that_nobody_makes(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "oltp")
    told = check(shop()).fault("error", "tracing")
    assert "the span exporter 'oltp' is not installed" in told
    assert "-> install its package, or mend OTEL_TRACES_EXPORTER" in told


@pytest.mark.parametrize(
    ("variable", "setting"),
    [("OTEL_METRICS_EXPORTER", "metrics_push=True"), ("OTEL_LOGS_EXPORTER", 'log_stream="otlp"')],
)
def test_an_exporter_of_what_is_not_sent(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, variable: str, setting: str
) -> None:
    monkeypatch.setenv(variable, "otlp")
    checked = check(shop())
    assert checked.faults == []  # an SDK of the app's own may read it
    assert f"{variable} is not read here: {setting} sends" in checked.ok("tracing")


def test_a_variable_with_which_the_sdk_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from flask import Flask\nimport opentelemetry.sdk.trace\napp = Flask('shop')\n")
    done = subprocess.run(
        [*FLASK, "--app", "shop", "observability", "check", "--json"],
        cwd=tmp_path,
        env={**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = Checked(json.loads(done.stdout)["findings"], done.returncode).fault("error", "tracing")
    assert told.startswith("OpenTelemetry's SDK cannot be imported, so the app does not start: ")
    assert told.endswith("-> mend or unset the variable that has this value, of OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT")


def test_a_sampler_that_takes_nothing(shop: Callable[..., Flask]) -> None:
    provider = LocalTracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    told = check(shop(tracer_provider=provider)).fault("warning", "tracing")
    assert "the sampler in force takes no request" in told
    assert "-> set OTEL_TRACES_SAMPLER=parentbased_traceidratio" in told


def test_a_ratio_of_0(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    provider = LocalTracerProvider(shutdown_on_exit=False)
    told = check(shop(tracer_provider=provider)).fault("warning", "tracing")
    assert "takes no request (TraceIdRatioBased{0" in told
    assert "and OTEL_TRACES_SAMPLER_ARG=0.1" in told


def test_a_propagator_that_is_none(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontext,b3multi,baggage")
    told = check(shop()).fault("error", "tracing")
    assert "OTEL_PROPAGATORS=b3multi: there is no such propagator" in told
    assert "opentelemetry-propagator-b3multi" in told


# Settings


def test_every_setting_is_told_with_its_place_and_no_secret(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("shop")
    app.config["OBSERVABILITY_MAX_ROUTES"] = 50
    monkeypatch.setenv("OBSERVABILITY_AUDIT_REQUESTS", "1")
    told = check(shop(app, metrics_access="token:s3cret-token")).ok("configuration")
    assert 'max_routes=50 (app.config["OBSERVABILITY_MAX_ROUTES"])' in told
    assert "audit_requests=True (environment variable OBSERVABILITY_AUDIT_REQUESTS)" in told
    assert "metrics_access='token:…' (keyword metrics_access)" in told
    assert "s3cret" not in told


def test_an_app_that_does_not_start_for_a_setting(shop: Callable[..., Flask]) -> None:
    told = check(lambda: shop(audit_durabilty="each")).fault("error", "configuration")
    assert "the app does not start: keyword audit_durabilty is no setting; did you mean audit_durability?" in told
    assert "-> mend this setting" in told


def test_an_app_that_cannot_be_loaded() -> None:
    def broken() -> Flask:
        raise KeyError("DATABASE_URL")

    told = check(broken).fault("error", "configuration")
    assert "the app cannot be loaded: KeyError: 'DATABASE_URL' -> flask --app" in told


def test_no_app_at_all() -> None:
    told = check(None).fault("error", "configuration")
    assert "Could not locate a Flask application" in told
    assert "-> flask --app MODULE:NAME run" in told


def test_an_app_that_nothing_observes() -> None:
    told = check(Flask("shop")).fault("error", "configuration")
    assert "nothing observes the app 'shop' -> call Observability(app)" in told


def test_a_setting_that_comes_after_the_extension(shop: Callable[..., Flask]) -> None:
    app = shop()
    app.config["OBSERVABILITY_AUDIT_REQUESTS"] = True
    told = check(app).fault("error", "configuration")
    assert 'app.config["OBSERVABILITY_AUDIT_REQUESTS"] has no effect: audit_requests is False' in told
    assert "-> set it before Observability(app)" in told


def test_a_second_observability(shop: Callable[..., Flask]) -> None:
    told = check(shop(shop(), audit_requests=True)).fault("warning", "configuration")
    assert "its audit_requests" in told
    assert "-> make one, with all settings" in told


def test_one_observability_that_is_given_an_app_twice_is_no_fault(shop: Callable[..., Flask]) -> None:
    app = Flask("shop")
    twice = Observability(
        registry=CollectorRegistry(), tracer_provider=LocalTracerProvider(shutdown_on_exit=False), max_routes=7
    )
    twice.init_app(app)
    twice.init_app(app)
    assert check(app).faults == []


def test_a_variable_that_is_no_setting(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSERVABILITY_PORT_4318_TCP", "tcp://10.0.0.7:4318")  # Kubernetes makes such up
    monkeypatch.setenv("OBSERVABILITY_METRICS_ALLOWED", "open")
    told = check(shop()).fault("warning", "configuration")
    assert "OBSERVABILITY_METRICS_ALLOWED is no setting and has no effect -> did you mean OBSERVABILITY_" in told


def test_a_variable_that_is_like_no_setting_is_not_taken_for_one(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSERVABILITY_FOO", "1")
    told = check(shop()).fault("warning", "configuration")
    assert told.endswith("has no effect -> help(flask_signal_observability.Config) lists them all")


def test_a_variable_that_keeps_the_app_from_starting_is_told_once(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBSERVABILITY_AUDIT_REQUEST", "1")
    told = check(shop).fault("error", "configuration")
    assert "did you mean OBSERVABILITY_AUDIT_REQUESTS?" in told


@pytest.mark.parametrize(
    ("given", "what", "remedy"),
    [
        ({"audit_keep": 7}, "audit_keep=7 has no effect: nothing rotates the files", "set audit_rotate_bytes or"),
        (
            {"metrics": False, "max_routes": 7},
            "max_routes=7 has no effect: metrics is off",
            "set metrics=True, or take",
        ),
    ],
)
def test_a_setting_without_effect(shop: Callable[..., Flask], given: dict[str, Any], what: str, remedy: str) -> None:
    told = check(lambda: shop(**given)).fault("warning", "configuration")
    assert what in told.partition(" -> ")[0]
    assert remedy in told.partition(" -> ")[2]


def test_two_who_believe_proxies(shop: Callable[..., Flask]) -> None:
    app = shop(trusted_proxies=1)
    app.wsgi_app = ProxyFix(app.wsgi_app)
    told = check(app).fault("warning", "configuration")
    assert "trusted_proxies=1 is ignored: ProxyFix has the address already -> take trusted_proxies out" in told


def test_a_service_that_is_called_as_many_are(shop: Callable[..., Flask]) -> None:
    told = check(shop(Flask("app"))).fault("warning", "configuration")
    assert "the service is called 'app'" in told
    assert "OTEL_SERVICE_NAME=shop" in told


# Metrics


def test_a_view_that_the_metrics_hide(shop: Callable[..., Flask]) -> None:
    app = Flask("shop")
    app.add_url_rule("/metrics", "statistics", lambda: "mine")
    told = check(lambda: shop(app)).fault("warning", "metrics")
    assert "the metrics hide the app's view at '/metrics' (endpoint 'statistics') -> set metrics_path" in told


def test_metrics_that_nobody_can_read(shop: Callable[..., Flask]) -> None:
    told = check(shop(metrics_path=None)).fault("warning", "metrics")
    assert "nobody reads the metrics -> set one of the three" in told


@pytest.mark.parametrize("access", ["open", "private", "token:s3cret-token", "networks:203.0.113.0/24"])
def test_the_metrics_are_read_as_one_who_may(shop: Callable[..., Flask], access: str) -> None:
    checked = check(shop(metrics_access=access))
    assert checked.faults == []
    assert "answers and parses" in checked.ok("metrics")


def test_a_rule_that_lets_nobody_in(shop: Callable[..., Flask]) -> None:
    told = check(shop(metrics_access=lambda request: "true")).fault("warning", "metrics")
    assert "/metrics answers 403" in told
    assert "-> let metrics_access return True" in told


def test_metrics_that_cannot_be_parsed(shop: Callable[..., Flask]) -> None:
    text = '# TYPE stock gauge\nstock{of="tea" 3\n'
    with planted(answer("200 OK", text)) as running:
        told = check(shop(), "--url", f"http://127.0.0.1:{running.port}/metrics").fault("error", "metrics")
    assert "cannot be parsed" in told
    assert "-> is that the metrics?" in told


def test_a_label_that_grows(shop: Callable[..., Flask]) -> None:
    app = shop(max_routes=10)
    for number in range(9):
        app.add_url_rule(f"/items/{number}", f"item{number}", lambda: "")
    for number in range(9):
        app.test_client().get(f"/items/{number}")
    checked = check(app)
    told = [each["what"] for each in checked.findings if each["level"] == "warning"]
    assert "http_server_request_duration_seconds: the label http_route has 9 of 10 values" in told
    assert {each["remedy"].partition(": ")[0] for each in checked.findings if each["what"] in told} == {
        "beyond them all are _OTHER"
    }


def test_a_label_that_is_full(shop: Callable[..., Flask]) -> None:
    app = shop(max_label_values=1)
    app.add_url_rule("/", "index", lambda: {}[1])
    app.add_url_rule("/b", "b", lambda: int("b"))
    for path in ("/", "/b"):
        app.test_client().get(path)
    told = json.dumps(check(app).findings)
    assert "observations are told as _OTHER, since a label has too many values" in told
    assert "find what puts ids into it" in told


def test_a_family_of_the_app_s_own_that_grows(shop: Callable[..., Flask]) -> None:
    registry = CollectorRegistry()
    seen = Counter("seen", "", ["flask_app", "user"], registry=registry)
    for number in range(85):
        seen.labels("shop", str(number)).inc()
    told = check(shop(registry=registry, max_series=100)).fault("warning", "metrics")
    assert "its label user alone has 85 values -> take what is unbounded" in told


def test_a_running_app_that_is_down(shop: Callable[..., Flask], free_port: int) -> None:
    told = check(shop(), "--url", f"http://localhost:{free_port}/metrics").fault("error", "metrics")
    assert "the connection is refused" in told
    assert "-> start the app" in told


def test_a_running_app_that_refuses(shop: Callable[..., Flask]) -> None:
    with planted(answer("403 Forbidden", "These metrics are private.")) as running:
        told = check(shop(), "--url", f"http://127.0.0.1:{running.port}/metrics").fault("error", "metrics")
    assert "answers 403: These metrics are private. -> let metrics_access admit" in told


def test_a_running_app_that_loses_audit_lines(shop: Callable[..., Flask], tmp_path: Path) -> None:
    running = shop(audit_path=str(tmp_path / "gone" / "audit.log"), audit_requests=True)
    running.test_client().get("/")
    text = running.test_client().get("/metrics").text
    with planted(answer("200 OK", text)) as server:
        checked = check(shop(), "--url", f"http://127.0.0.1:{server.port}/metrics")
    told = {each["what"]: each["remedy"] for each in checked.findings if each["level"] == "warning"}
    assert told["1 audit lines are lost"].startswith("make room on the disk")
    assert any("failures inside this package" in what for what in told)


def test_a_port_that_something_else_has(shop: Callable[..., Flask]) -> None:
    with planted(answer("200 OK", "hello"), all_interfaces=True) as other:
        told = check(lambda: shop(metrics_port=other.port)).fault("error", "metrics")
    assert f"metrics_port {other.port} is taken by something else -> stop that" in told


def test_a_port_that_a_running_process_of_the_app_has(shop: Callable[..., Flask], free_port: int) -> None:
    running = shop(metrics_port=free_port)
    checked = check(lambda: shop(metrics_port=free_port))
    running.extensions["observability"].metrics_server.close()
    assert checked.faults == []
    assert f"metrics_port {free_port} is open" in checked.ok("metrics")


# Workers


@pytest.mark.parametrize("environ", [{"WEB_CONCURRENCY": "4"}, {"GUNICORN_CMD_ARGS": "--threads 2 --workers=4"}])
def test_workers_that_share_nothing(
    shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    told = check(shop(metrics_shared="off")).fault("error", "workers")
    assert "4 workers and metrics_shared='off'" in told
    assert "-> set metrics_shared='auto'" in told


def test_a_directory_of_workers_that_others_may_write_to(shop: Callable[..., Flask], tmp_path: Path) -> None:
    home = tmp_path / "run" / f"flask_signal_observability-{os.geteuid()}"
    home.mkdir()
    home.chmod(0o777)
    told = check(shop()).fault("error", "workers")
    assert f"others may write to {home} (mode 777) -> chmod 700 {home}" in told


def test_a_directory_of_workers_that_is_a_link(shop: Callable[..., Flask], tmp_path: Path) -> None:
    home = tmp_path / "run" / f"flask_signal_observability-{os.geteuid()}"
    home.symlink_to(tmp_path)
    assert "is a symbolic link, which is not followed -> give the path" in check(shop()).fault("error", "workers")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_workers_that_is_another_user_s(shop: Callable[..., Flask], tmp_path: Path) -> None:
    home = tmp_path / "run" / f"flask_signal_observability-{os.geteuid()}"
    home.mkdir(0o700)
    os.chown(home, 12345, 12345)
    assert "belongs to another user -> take it away" in check(shop()).fault("error", "workers")


def test_what_a_dead_server_has_left(shop: Callable[..., Flask], tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    namespace = Path("/proc/self/ns/pid").stat().st_ino if Path("/proc/self/ns/pid").exists() else 0
    home = tmp_path / "run" / f"flask_signal_observability-{os.geteuid()}"
    (home / f"{gone.pid}-1-{namespace}").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    assert "keeps the metrics of 1 server gone by now; the next one that starts takes them away" in (
        check(shop()).ok("workers")
    )
    for number in range(2, 12):
        (home / f"{gone.pid}-{number}-{namespace}").mkdir(mode=0o700)
    told = check(shop()).fault("warning", "workers")
    assert "keeps the metrics of 11 servers gone by now -> take them away" in told
    assert len(list(home.iterdir())) == 11


# Files


def test_a_directory_that_is_not_there(shop: Callable[..., Flask], tmp_path: Path) -> None:
    told = check(lambda: shop(audit_path=str(tmp_path / "log" / "audit.log"))).fault("error", "audit file")
    assert f"its directory {tmp_path}/log does not exist -> make it" in told


def test_a_journal_that_is_a_directory(shop: Callable[..., Flask], tmp_path: Path) -> None:
    told = check(lambda: shop(error_journal_path=str(tmp_path))).fault("error", "error journal")
    assert "it is a directory -> give the path of a file in it" in told


def test_an_audit_file_that_is_a_link(shop: Callable[..., Flask], tmp_path: Path) -> None:
    (tmp_path / "access_audit.log").symlink_to(tmp_path / "elsewhere")
    assert "it is a symbolic link, which is not followed -> give the path" in check(shop).fault("error", "audit file")


def test_an_audit_file_that_everybody_reads(shop: Callable[..., Flask], tmp_path: Path) -> None:
    path = tmp_path / "access_audit.log"
    path.touch(0o600)
    path.chmod(0o644)
    told = check(shop()).fault("warning", "audit file")
    assert f"everybody may read who did what in {path} (mode 644) -> chmod 640 {path}" in told
    path.chmod(0o666)
    assert "everybody may change" in check(shop()).fault("error", "audit file")


def test_a_disk_with_little_room(shop: Callable[..., Flask], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        told = check(shop(audit_path=str(disk / "audit.log"))).fault("warning", "audit file")
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=60)
    assert f"{disk} has 8 MB left -> make room, or audit_rotate_bytes" in told


def test_an_audit_file_that_is_served(shop: Callable[..., Flask], tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    told = check(shop(audit_path=str(tmp_path / "static" / "audit.log"))).fault("error", "audit file")
    assert "is in the static folder: everybody can fetch it -> set audit_path elsewhere" in told


def test_a_log_file_without_a_directory(shop: Callable[..., Flask], tmp_path: Path) -> None:
    told = check(shop(log_stream=str(tmp_path / "log" / "shop.log"))).fault("error", "log")
    assert "does not exist -> make it" in told


@pytest.fixture
def chained(tmp_path: Path) -> Path:
    writer = ChainedFile(tmp_path / "audit.log", AuditKey(SECRET.encode()))
    writer.write(5)
    writer.close()
    (tmp_path / "audit.log").chmod(0o640)
    return tmp_path / "audit.log"


def test_a_chain_that_is_intact(shop: Callable[..., Flask], chained: Path) -> None:
    checked = check(shop(audit_path=str(chained), audit_chain=True, audit_key=SECRET))
    assert checked.faults == []
    assert "the chain is intact: 7 of 7 lines proved" in checked.ok("audit file")
    assert SECRET not in json.dumps(checked.findings)


def test_a_chain_that_is_broken(shop: Callable[..., Flask], chained: Path) -> None:
    chained.write_bytes(chained.read_bytes().replace(b"/orders/2", b"/orders/7"))
    told = check(shop(audit_path=str(chained), audit_chain=True, audit_key=SECRET)).fault("error", "audit file")
    assert "the chain is broken, line 4: edit" in told
    assert f"-> flask observability audit verify {chained}*" in told


def test_a_chain_of_another_key(shop: Callable[..., Flask], chained: Path) -> None:
    app = shop(audit_path=str(chained), audit_chain=True, audit_key="another of 24 characters")
    told = check(app).fault("error", "audit file")
    assert "the chain cannot be checked" in told
    assert "was another key in force?" in told


def test_a_key_that_everybody_reads(shop: Callable[..., Flask], chained: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SECRET)
    key.chmod(0o600)
    app = shop(audit_path=str(chained), audit_chain=True, audit_key_file=str(key))
    key.chmod(0o644)
    told = check(app).fault("error", "audit file")
    assert "mode 0644" in told
    assert "-> mend the key file" in told


def test_a_file_that_ends_in_the_middle_of_a_record(shop: Callable[..., Flask], chained: Path) -> None:
    with chained.open("ab") as file:
        file.write(b"[2026-11-22T10:0")
    told = check(shop(audit_path=str(chained), audit_chain=True, audit_key=SECRET)).fault("warning", "audit file")
    assert "ends in the middle of a record" in told
    assert "a crash or a full disk" in told


# Who else is there


def test_a_second_instrumentation_of_opentelemetry_s(shop: Callable[..., Flask]) -> None:
    peer = pytest.importorskip("opentelemetry.instrumentation.flask")
    app = shop()
    peer.FlaskInstrumentor.instrument_app(app, tracer_provider=LocalTracerProvider(shutdown_on_exit=False))
    told = check(app).fault("warning", "duplicates")
    assert "a second span of every request -> take FlaskInstrumentor out" in told


def test_an_exporter_of_another_s(shop: Callable[..., Flask]) -> None:
    peer = pytest.importorskip("prometheus_flask_exporter")
    app = shop(metrics_path="/-/metrics")
    peer.PrometheusMetrics(app, registry=CollectorRegistry(), path="/metrics")
    told = check(app).fault("warning", "duplicates")
    assert "prometheus-flask-exporter counts every request a second time" in told
    assert "-> take PrometheusMetrics out" in told


def test_an_application_that_is_mounted_before_the_metrics(shop: Callable[..., Flask]) -> None:
    app = shop()

    def theirs(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"up 1\n"]

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": theirs})
    told = check(app).fault("warning", "duplicates")
    assert "another application is mounted at '/metrics', in front of the metrics -> take it out" in told


def test_the_start_by_opentelemetry_instrument(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.instrumentation.flask")
    monkeypatch.setenv("PYTHONPATH", "/lib/opentelemetry/instrumentation/auto_instrumentation")
    told = check(shop()).fault("warning", "duplicates")
    assert "-> set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=flask" in told


def test_a_release_that_is_too_old(shop: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old" / "prometheus_client-0.9.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: prometheus-client\nVersion: 0.9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "old"))
    told = check(shop()).fault("error", "releases")
    assert "prometheus-client 0.9.0 is installed, and flask-signal-observability needs" in told
    assert "-> pip install 'prometheus-client" in told


# How it is told


def test_warnings_end_with_1_where_they_are_to(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    app = shop()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert (check(app).exit_code, check(app, "--strict").exit_code) == (0, 1)


def test_time_is_bounded(shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> None:
    with planted(None) as collector:
        export_to(monkeypatch, collector.port)
        began = time.monotonic()
        check(shop(metrics_push=False), "--url", f"http://127.0.0.1:{collector.port}/metrics", "--timeout", "0.3")
        assert time.monotonic() - began < 2


def test_only_faults_are_told_where_quiet_is_asked_for(shop: Callable[..., Flask]) -> None:
    result = CliRunner().invoke(cli, ["check", "-q"], obj=ScriptInfo(create_app=lambda: shop(Flask("app"))))
    first, second, last = result.stdout.splitlines()
    assert first == "warning  configuration  the service is called 'app', as many others are"
    assert second.startswith("                        -> name it: ")
    assert re.fullmatch(r"0 errors, 1 warning, \d+ ok", last)


SHOP = """
from flask import Flask
from flask_signal_observability import Observability
app = Flask("shop")
Observability(app, audit_path="/var/log/nowhere/audit.log")
"""


def test_marks_and_colours_are_for_terminals(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    command = [*FLASK, "--app", "shop", "observability", "check", "-q"]
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environ, timeout=60, check=False)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (2, b"")
    assert "✗" in shown
    assert "\x1b[31m" in shown


def test_the_readme_shows_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    shown = re.search(r"```console\n\$ (OTEL\S+) (flask --app shop observability check .*)\n((?:.*\n)*?)```", README)
    assert shown is not None
    variable, _, value = shown[1].partition("=")
    command = [*FLASK, *shown[2].split()[1:]]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, variable: value}, timeout=60, check=False
    )
    assert (done.stderr, done.returncode) == ("", 2)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[:-1] == shown[3].splitlines()[:-1]
