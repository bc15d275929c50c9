from __future__ import annotations

import gzip
import http.client
import logging
import os
import shutil
import socket
import subprocess
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Counter
from prometheus_client import Enum
from prometheus_client import Gauge
from prometheus_client import generate_latest
from prometheus_client import Histogram
from prometheus_client import Info
from prometheus_client import Metric
from prometheus_client import Summary
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from werkzeug.test import Client
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_signal_observability.access import make_rule
from flask_signal_observability.exposition import Exposition
from flask_signal_observability.guard import Guard
from flask_signal_observability.metrics_port.server import serve

TEXT = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# As captured from the program.
PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
# As scrape.acceptHeader of Prometheus 3 writes them, without and with native histograms.
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_NATIVE_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


class Yields:
    """A foreign collector."""

    def __init__(self, *families: object) -> None:
        self.families = families

    def collect(self):
        yield from self.families


class Raises:
    def collect(self):
        yield GaugeMetricFamily("half_done", "Lost with its collector.", 1)
        raise RuntimeError("the database is gone")


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry(target_info={"service_name": "shop"})
    requests = Counter("requests", "Requests\nserved \\ so far.", ["route"], registry=registry)
    requests.labels('/a"b\\c\n').inc(exemplar={"trace_id": "4bf92f3577b34da6"})
    requests.labels("/ünï").inc(2)
    Gauge("temperature_celsius", "Warm.", unit="celsius", registry=registry).set(36.6)
    duration = Histogram("duration_seconds", "Time.", ["route"], buckets=(0.1, 1), registry=registry)
    duration.labels("/").observe(0.05, {"trace_id": "4bf92f3577b34da6", "span_id": "00f067aa0ba902b7"})
    duration.labels("/").observe(float("inf"))
    Summary("size_bytes", "Size.", registry=registry).observe(7)
    Info("build", "Build.", registry=registry).info({"version": "1.2"})
    Enum("state", "State.", states=["up", "down"], registry=registry)
    Gauge("silent", "Never set.", ["label"], registry=registry)
    with_label = GaugeMetricFamily("dotted.name", "UTF-8 names.", labels=["größe.x"])
    with_label.add_metric(["é"], 1, timestamp=1_700_000_000.5)
    registry.register(Yields(with_label, CounterMetricFamily("foreign", "Foreign.", 3)))
    return registry


@pytest.fixture
def failures() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def guard(failures) -> Guard:
    guard = Guard()
    guard.count = lambda sink, stage: failures.append((sink, stage))
    return guard


@pytest.fixture
def client(registry, guard) -> Client:
    return scraper(registry, guard)


def scraper(registry, guard, access="open") -> Client:
    return Client(Exposition(registry, make_rule(access, guard), guard))


def test_text_is_what_generate_latest_writes(client, registry, failures):
    response = client.get("/metrics")
    assert response.status == "200 OK"
    assert response.headers["Content-Type"] == TEXT
    assert response.data == generate_latest(registry)
    assert b"target_info" in response.data
    assert failures == []


def test_openmetrics_is_what_generate_latest_writes(client, registry, failures):
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert response.headers["Content-Type"] == OPENMETRICS
    assert response.data == generate_openmetrics(registry)
    assert response.data.count(b"# EOF") == 1
    assert b'trace_id="4bf92f3577b34da6"' in response.data
    assert failures == []


def test_an_openmetrics_parser_reads_it(client):
    text = client.get("/metrics", headers={"Accept": PROMETHEUS_3}).text
    names = {family.name for family in parse_openmetrics(text)}
    assert {"target", "requests", "duration_seconds", "build", "state", "dotted.name", "foreign"} <= names


@pytest.mark.parametrize("escaping", ["allow-utf-8", "underscores", "dots", "values"])
@pytest.mark.parametrize(
    ("media_type", "generate"),
    [("text/plain", generate_latest), ("application/openmetrics-text", generate_openmetrics)],
)
def test_names_are_escaped_as_asked(client, registry, media_type, generate, escaping):
    response = client.get("/metrics", headers={"Accept": f"{media_type};version=1.0.0;escaping={escaping}"})
    assert response.headers["Content-Type"] == f"{media_type}; version=1.0.0; charset=utf-8; escaping={escaping}"
    assert response.data == generate(registry, escaping=escaping)


def test_an_empty_registry_is_an_empty_page(guard):
    client = scraper(CollectorRegistry(), guard)
    assert client.get("/metrics").data == b""
    assert client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).data == b"# EOF\n"


@pytest.mark.real
def test_promtool_finds_nothing_wrong(client):
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not on PATH, and CI must check with it")
        pytest.skip("promtool is not on PATH")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=client.get("/metrics").data, capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/plain", TEXT),
        ("TEXT/Plain; Version=0.0.4", TEXT),
        ("text/plain;version=0.0.4;escaping=allow-utf-8", TEXT),
        ("text/plain;version=1.0.0", TEXT_1),
        ("text/plain;version=9.9.9", TEXT),
        ("text/plain;version=9.9.9,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;charset=utf-8", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=nonsense", OPENMETRICS),
        ("application/openmetrics-text;escaping=allow-utf-8", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=1.0.0;q=0.5", TEXT_1),
        ("application/openmetrics-text;version=1.0.0\r\nX: y", OPENMETRICS),
        ("application/openmetrics-text;q=0.5,text/plain", TEXT),
        ("text/plain;q=0.5,application/openmetrics-text", OPENMETRICS),
        ("text/plain,application/openmetrics-text", TEXT),
        ("application/openmetrics-text,text/plain", OPENMETRICS),
        ("text/plain;q=0.5,application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.0,*/*;q=0.1", TEXT),
        ("text/plain;q=0,*/*", OPENMETRICS),
        ("text/plain;version=0.0.4;q=0,text/plain", TEXT_1),
        ("*/*;q=0,application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;q=nonsense,text/plain;version=1.0.0", TEXT_1),
        ("application/json", TEXT),
        ("image/png,application/xml;q=0.9", TEXT),
        (FIREFOX, TEXT),
        (PROMETHEUS_2_42, OPENMETRICS),
        (PROMETHEUS_3, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (PROMETHEUS_3_NATIVE_HISTOGRAMS, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (";;,,=q;version", TEXT),
    ],
)
def test_the_format_is_negotiated_as_in_prometheus(client, accept, content_type):
    environ = create_environ("/metrics")
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    body, status, headers = run_wsgi_app(client.application, environ, buffered=True)
    assert status == "200 OK"
    assert headers["Content-Type"] == content_type
    assert next(iter(body)).endswith(b"# EOF\n") == content_type.startswith("application/")


def test_an_unknown_version_is_never_echoed(client):
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=7.7.7"})
    assert "7.7.7" not in str(response.headers)
    assert response.data


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("*;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("deflate, br", False),
        ("", False),
        (None, False),
    ],
)
def test_gzip_is_used_where_it_is_accepted(client, registry, accepted, compressed):
    response = client.get("/metrics", headers={} if accepted is None else {"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)
    assert (gzip.decompress(response.data) if compressed else response.data) == generate_latest(registry)


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_an_answer_says_its_length_what_it_depends_on_and_that_it_is_not_to_be_kept(client, accepted):
    response = client.get("/metrics", headers={"Accept-Encoding": accepted})
    assert response.headers["Content-Length"] == str(len(response.data))
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("access", ["open", "private", "token:s3cret"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "8.8.8.8"])
def test_head_is_get_without_the_body(registry, guard, access, peer):
    client = scraper(registry, guard, access)
    asked = {"headers": {"Accept": PROMETHEUS_3}, "environ_overrides": {"REMOTE_ADDR": peer}}
    head, get = client.head("/metrics", **asked), client.get("/metrics", **asked)
    assert (head.status, list(head.headers), head.data) == (get.status, list(get.headers), b"")
    assert int(head.headers["Content-Length"]) == len(get.data) > 0


def test_options_tells_the_methods(client):
    response = client.options("/metrics")
    assert (response.status, response.headers["Allow"], response.data) == ("200 OK", "GET, HEAD, OPTIONS", b"")
    assert response.headers["Content-Length"] == "0"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "QUERY", "get"])
def test_other_methods_are_not_allowed(client, method):
    environ = create_environ("/metrics", method=method)
    environ["REQUEST_METHOD"] = method
    _, status, headers = run_wsgi_app(client.application, environ)
    assert status.startswith("405 ")
    assert headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_a_refusal_comes_before_any_method(registry, guard, method):
    response = scraper(registry, guard, "token:s3cret").open("/metrics", method=method)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="metrics"'
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert b"requests_total" not in response.data


def test_a_rule_that_raises_lets_nobody_in(registry, guard, failures):
    def broken(environ):
        raise RuntimeError("no")

    response = Client(Exposition(registry, broken, guard)).get("/metrics")
    assert response.status_code == 500
    assert b"requests_total" not in response.data
    assert failures == [("metrics", "expose")]


def families(text: bytes) -> list[str]:
    """The families of a text answer, whatever their order."""
    return sorted(text.decode().split("# HELP "))


@pytest.mark.parametrize("describes", [True, False])
@pytest.mark.parametrize("nameless_too", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ["requests_total"],
        ["duration_seconds_bucket", "duration_seconds_count", "temperature_celsius", "unknown"],
        ["target_info"],
        ["target_info", "build_info", "foreign_total"],
        ["foreign_total", "requests"],
        ["unknown"],
    ],
)
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_name_restricts_as_a_restricted_registry_does(guard, names, describes, nameless_too, accept):
    nameless = {"support_collectors_without_names": True} if nameless_too else {}
    try:
        registry = CollectorRegistry(auto_describe=describes, target_info={"a": "b"}, **nameless)
    except TypeError:
        pytest.skip("this prometheus_client knows no collectors without names")
    Counter("requests", "R.", registry=registry).inc()
    Histogram("duration_seconds", "D.", unit="seconds", registry=registry).observe(1)
    Gauge("temperature_celsius", "T.", unit="celsius", registry=registry).set(1)
    Info("build", "B.", registry=registry).info({"version": "1"})
    registry.register(Yields(CounterMetricFamily("foreign", "F.", 3), GaugeMetricFamily("other", "O.", 1)))
    response = scraper(registry, guard).get("/metrics", query_string={"name[]": names}, headers={"Accept": accept})
    generate = generate_latest if accept == "text/plain" else generate_openmetrics
    restricted = generate(registry.restricted_registry(names))
    assert families(response.data.replace(b"# EOF\n", b"")) == families(restricted.replace(b"# EOF\n", b""))


def test_an_empty_name_restricts_nothing(client, registry):
    assert client.get("/metrics?name[]=").data == generate_latest(registry)


def test_name_leaves_the_other_collectors_alone(guard, failures):
    registry = CollectorRegistry()
    Gauge("healthy", "H.", registry=registry)
    registry.register(Raises())
    assert b"healthy 0.0" in scraper(registry, guard).get("/metrics?name[]=healthy").data
    assert failures == []


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_a_collector_that_raises_loses_its_own_families_only(registry, guard, failures, accept):
    client = scraper(registry, guard)
    before = client.get("/metrics", headers={"Accept": accept}).data
    registry.register(Raises())
    Gauge("registered_later", "L.", registry=registry).set(5)
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert b"half_done" not in response.data
    later = b"# HELP registered_later L.\n# TYPE registered_later gauge\nregistered_later 5.0\n"
    assert response.data.replace(later, b"") == before
    assert failures == [("metrics", "collect")]


def unwritable() -> list[object]:
    bad_value, bad_label, surrogate, bad_exemplar = (Metric(f"bad{n}", "Bad.", "gauge") for n in range(4))
    bad_value.add_sample("bad0", {}, "not a number")
    bad_label.add_sample("bad1", {"label": None}, 1)
    surrogate.add_sample("bad2", {"label": "\ud800"}, 1)
    bad_exemplar.add_sample("bad3", {}, 1, None, "no exemplar")
    return [bad_value, bad_label, surrogate, bad_exemplar, object(), None]


@pytest.mark.parametrize("broken", unwritable(), ids=str)
def test_a_family_that_cannot_be_written_loses_itself_only(registry, guard, failures, broken):
    registry.register(Yields(GaugeMetricFamily("sibling", "S.", 1), broken, GaugeMetricFamily("twin", "T.", 2)))
    response = scraper(registry, guard).get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert [b"sibling 1.0" in response.data, b"twin 2.0" in response.data, b"bad" in response.data] == [1, 1, 0]
    assert list(parse_openmetrics(response.text))
    assert failures == [("metrics", "encode")]


def test_prometheus_client_still_lists_its_collectors_under_the_name_we_read():
    registry = CollectorRegistry()
    gauge = Gauge("watched", "W.", registry=registry)
    assert registry._collector_to_names == {gauge: ANY}
    assert "watched" in registry._collector_to_names[gauge]


class PublicNamesOnly:
    """A registry of a prometheus_client that renamed what is private."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.collect = registry.collect
        self.restricted_registry = registry.restricted_registry


def test_without_the_private_name_the_whole_registry_is_read(registry, guard):
    client = scraper(PublicNamesOnly(registry), guard)
    assert client.get("/metrics").data == generate_latest(registry)
    names = ["requests_total"]
    restricted = client.get("/metrics", query_string={"name[]": names}).data
    assert restricted == generate_latest(registry.restricted_registry(names))


def test_without_the_private_name_a_failing_collector_costs_the_page_but_not_the_answer(registry, guard, failures):
    registry.register(Raises())
    assert scraper(PublicNamesOnly(registry), guard).get("/metrics").status_code == 200
    assert failures == [("metrics", "collect")]


def test_a_total_failure_is_one_line_and_counted(guard, failures):
    response = scraper(None, guard).get("/metrics?name[]=a")
    assert response.status_code == 500
    assert response.text.count("\n") == 1
    assert failures == [("metrics", "expose")]


def test_a_collector_may_register_another_while_it_is_collected(guard, failures):
    registry = CollectorRegistry()

    class Registers:
        def collect(self):
            Gauge("newcomer", "N.", registry=registry)
            return [GaugeMetricFamily("host", "H.", 1)]

    registry.register(Registers())
    assert b"host 1.0" in scraper(registry, guard).get("/metrics").data
    assert failures == []


hostile = st.text(st.characters(max_codepoint=0xFF), max_size=80)
TOKENS = ["text/plain", "*/*", "application/openmetrics-text", ";", ",", "version=", "1.0.0", "x*0=", "q=", "0", '"']
pieces = st.lists(st.sampled_from(TOKENS) | hostile, max_size=12).map("".join)


@given(accept=pieces, encoding=pieces, query=hostile | hostile.map("name[]={}".format), peer=hostile)
def test_no_header_makes_it_fail(accept, encoding, query, peer):
    registry = CollectorRegistry()
    Gauge("alive", "A.", registry=registry).set(1)
    guard = Guard()
    failures: list[tuple[str, str]] = []
    guard.count = lambda sink, stage: failures.append((sink, stage))
    environ = create_environ("/metrics")
    environ.update(HTTP_ACCEPT=accept, HTTP_ACCEPT_ENCODING=encoding, QUERY_STRING=query, REMOTE_ADDR=peer)
    exposition = Exposition(registry, make_rule("open", guard), guard)
    _, status, headers = run_wsgi_app(exposition, environ, buffered=True)
    assert (status, failures) == ("200 OK", [])
    bare = headers["Content-Type"].partition("; escaping=")[0]
    assert bare in {TEXT, TEXT_1, OPENMETRICS}


def fetch(port: int, path: str, host: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_port_of_its_own_gives_the_same_answer_at_every_path(registry, guard, caplog, capsys):
    server = serve(0, Exposition(registry, make_rule("private", guard), guard), guard)
    assert server is not None
    try:
        with caplog.at_level(logging.DEBUG):
            for path in ("/metrics", "/", "/anything?else"):
                assert fetch(server.port, path) == (200, generate_latest(registry))
        assert fetch(server.port, "/metrics", Via="1.1 proxy")[0] == 403
    finally:
        server.close()
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_port_of_its_own_answers_ipv6_too(registry, guard):
    server = serve(0, Exposition(registry, make_rule("private", guard), guard), guard)
    assert server is not None
    try:
        assert fetch(server.port, "/metrics", "::1")[0] == 200
    finally:
        server.close()


def test_a_closed_port_is_free_again(client, guard):
    first = serve(0, client.application, guard)
    assert first is not None
    first.close()
    first.close()
    second = serve(first.port, client.application, guard)
    assert second is not None
    second.close()


def test_a_taken_port_is_one_warning_that_names_it(client, guard, failures, caplog):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(port, client.application, guard) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"metrics_port {port}" in record.getMessage()
    assert "another metrics_port" in record.getMessage()
    assert failures == [("metrics", "serve")]


def test_a_missing_multiprocess_directory_costs_the_apps_own_metrics_and_not_the_page(
    guard, failures, monkeypatch, tmp_path
):
    registry = CollectorRegistry()
    Counter("requests", "Requests.", registry=registry).inc()
    registry.register(Yields(GaugeMetricFamily("other", "Other.", 1)))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    answer = scraper(registry, guard).get("/metrics")
    assert answer.status_code == 200
    assert "\nother 1.0\n" in answer.text
    assert "requests" not in answer.text
    assert failures == [("metrics", "collect")]
