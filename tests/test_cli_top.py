"""``flask observability top``: quantiles as Prometheus makes them, and a live table of servers that really serve."""

from __future__ import annotations

import itertools
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import Any
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from click.testing import CliRunner
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.serving import make_server

from flask_signal_observability.cli import cli
from flask_signal_observability.top.quantile import histogram_quantile
from flask_signal_observability.top.scrape import increase
from flask_signal_observability.top.scrape import read_scrape
from flask_signal_observability.top.screen import lines_of
from flask_signal_observability.top.table import COLUMNS
from flask_signal_observability.top.table import make_table
from flask_signal_observability.top.table import Table
from flask_signal_observability.top.target import Target
from flask_signal_observability.top.target import TargetError

from .bounded import bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from click.testing import Result

    from flask_signal_observability.top.scrape import Scrape

    from .conftest import Observed

INF = math.inf


# Quantiles.


@pytest.mark.parametrize(
    ("quantile", "buckets", "value"),
    [
        (0.5, {0.1: 0, 0.2: 10, INF: 10}, 0.15),  # half-way through the second bucket
        (0.5, {0.1: 10, 0.2: 10, INF: 10}, 0.05),  # the first one begins at 0
        (0.95, {0.1: 50, 0.5: 90, 1.0: 100, INF: 100}, 0.75),
        (0.99, {0.1: 50, 0.5: 90, INF: 100}, 0.5),  # in the last one: its lower bound
        (0.25, {0.1: 25, 0.5: 90, INF: 100}, 0.1),  # at the upper bound of a bucket
        (1.0, {0.1: 0, 0.5: 4, INF: 4}, 0.5),
        (0.0, {0.1: 4, INF: 4}, 0.0),
        (0.5, {0.1: 3, 0.2: 2, 0.4: 4, INF: 4}, 0.1 * 2 / 3),  # a count that falls is taken for the one before
        (0.5, {-1.0: 3, 1.0: 4, INF: 4}, -1.0),
    ],
)
def test_a_quantile_is_interpolated_within_its_bucket(
    quantile: float, buckets: dict[float, float], value: float
) -> None:
    assert histogram_quantile(quantile, buckets) == pytest.approx(value)


@pytest.mark.parametrize("buckets", [{}, {INF: 5}, {0.1: 0, INF: 0}, {0.1: 1, 0.2: 2}])
def test_without_observations_or_buckets_there_is_no_quantile(buckets: dict[float, float]) -> None:
    assert math.isnan(histogram_quantile(0.5, buckets))


@given(
    st.lists(st.integers(0, 1000), min_size=15, max_size=15),
    st.sampled_from((0.0, 0.5, 0.95, 0.99, 1.0)),
)
def test_a_quantile_lies_in_the_bucket_that_its_rank_falls_into(counts: list[int], quantile: float) -> None:
    bounds = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, INF)
    value = histogram_quantile(quantile, dict(zip(bounds, itertools.accumulate(counts), strict=True)))
    if not sum(counts):
        assert math.isnan(value)
        return
    below = sum(count for count, bound in zip(counts, bounds, strict=True) if bound < value - 1e-12)
    assert 0 <= value <= 10
    assert below <= quantile * sum(counts) + 1e-6


HAND_MADE = ({0.1: 50, 0.5: 90, 1.0: 100, INF: 100}, {0.1: 0, 0.5: 1, 1.0: 7, INF: 8}, {0.1: 3, 0.5: 3, 1.0: 3, INF: 9})


@pytest.mark.real
def test_quantiles_are_those_of_prometheus(tmp_path: Any) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not on PATH, and CI must check with it")
        pytest.skip("promtool is not on PATH")
    series, expected = [], []
    for number, buckets in enumerate(HAND_MADE):
        for bound, count in buckets.items():
            le = "+Inf" if bound == INF else bound
            series.append({"series": f'd_bucket{{n="{number}",le="{le}"}}', "values": str(count)})
    for quantile in (0.05, 0.5, 0.95, 0.99):
        samples = [
            {"labels": f'{{n="{number}"}}', "value": histogram_quantile(quantile, buckets)}
            for number, buckets in enumerate(HAND_MADE)
        ]
        expected.append(
            {"expr": f"histogram_quantile({quantile}, d_bucket)", "eval_time": "0m", "exp_samples": samples}
        )
    file = tmp_path / "quantiles.yaml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expected}]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# Two scrapes.


def scrape(at_seconds: float, *, route: str = "/a", fast: int = 0, slow: int = 0, failed: int = 0) -> Scrape:
    """So many requests: fast ones below 0.1 s, slow ones below 1 s, failed ones beyond."""
    lines = []
    for error, counts in (("", {0.1: fast, 1.0: fast + slow, INF: fast + slow}), ("E", {0.1: 0, 1.0: 0, INF: failed})):
        for bound, count in counts.items():
            labels = f'flask_app="shop",http_request_method="GET",http_route="{route}",error_type="{error}"'
            le = "+Inf" if bound == INF else bound
            lines.append(f'http_server_request_duration_seconds_bucket{{{labels},le="{le}"}} {count}')
    text = "# TYPE http_server_request_duration_seconds histogram\n" + "\n".join(lines) + "\n"
    return read_scrape(text_string_to_metric_families(text), at_seconds)


def test_a_row_tells_what_happened_between_two_scrapes() -> None:
    table = make_table([(scrape(10, fast=100, slow=5), scrape(12, fast=104, slow=9, failed=2))], [])
    (row,) = table.rows
    assert (table.seconds, row.rate_per_second, row.requests_total, row.error_ratio) == (2, 5, 115, 0.2)
    assert row.quantile_seconds(0.5) == pytest.approx(0.1 + 0.9 / 4)
    assert row.quantile_seconds(0.99) == 1.0


def test_a_process_that_began_anew_counts_what_it_has_since() -> None:
    before, after = scrape(10, fast=100, slow=5), scrape(12, fast=3, slow=1)
    (row,) = make_table([(before, after)], []).rows
    assert (row.requests, row.rate_per_second) == (4, 2)
    assert min(min(buckets.values()) for buckets in increase(before.durations, after.durations).values()) == 0


def test_instances_are_added_up_each_by_its_own_time_and_its_own_restart() -> None:
    one = scrape(10, fast=100), scrape(12, fast=110)
    other = scrape(10, fast=7), scrape(14, fast=4)
    (row,) = (table := make_table([one, other], [])).rows
    assert (row.requests, row.rate_per_second, row.requests_total, table.seconds) == (14, 5 + 1, 114, 4)


def test_an_instance_that_has_just_come_brings_its_totals_alone() -> None:
    (row,) = make_table([(scrape(10, fast=100), scrape(12, fast=110)), (None, scrape(12, fast=50))], []).rows
    assert (row.requests, row.requests_total) == (10, 160)


def test_a_first_scrape_tells_of_all_the_time_since() -> None:
    (row,) = (table := make_table([(None, scrape(10, fast=9, failed=1))], [])).rows
    assert (table.seconds, row.error_ratio) == (None, 0.1)
    assert math.isnan(row.rate_per_second)


@pytest.mark.parametrize(
    ("column", "routes"),
    [
        ("rate", ["/slow", "/bad", "/idle"]),
        ("errors", ["/bad", "/slow", "/idle"]),
        ("p50", ["/slow", "/bad", "/idle"]),
        ("route", ["/bad", "/idle", "/slow"]),
    ],
)
def test_rows_are_sorted_by_a_column_and_what_has_no_figure_comes_last(column: Any, routes: list[str]) -> None:
    gains = {"/slow": {"slow": 20}, "/bad": {"fast": 9, "failed": 2}, "/idle": {}}
    before, after = (
        scrape(at)._replace(
            durations={
                series: buckets
                for route, gain in gains.items()
                for series, buckets in scrape(at, route=route, **(gain if at else {})).durations.items()
            }
        )
        for at in (0, 2)
    )
    assert [row.route for row in make_table([(before, after)], [], sort=column).rows] == routes
    assert column in COLUMNS


def test_what_a_label_holds_cannot_touch_the_terminal() -> None:
    table = make_table([(None, scrape(0, route="/\033[2J", fast=1))], ["said \033[2J"])
    assert "\033" not in repr(lines_of(table)).replace("\\x1b", "")
    assert lines_of(table).cells[0][-1] == r"GET /\x1b[2J"


def test_rows_that_there_is_no_room_for_are_counted() -> None:
    table = Table(1.0, make_table([(None, scrape(0, fast=1))], []).rows * 5, make_table([], []).total, 0, 1, (), [])
    assert (len(lines_of(table, max_rows=3).cells), lines_of(table, max_rows=3).others) == (3, 2)


# A server.


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    server = make_server("127.0.0.1", port, app, threaded=True)
    server.log_request = lambda *_: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def traffic(*urls: str) -> Iterator[None]:
    """Visit the addresses, one after the other, until the block ends."""
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            for url in urls:
                try:
                    with urlopen(url, timeout=10) as response:
                        response.read()
                except OSError:
                    pass

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def shop(observe: Callable[..., Observed]) -> Iterator[str]:
    app = Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/fine", view_func=lambda: "fine", endpoint="fine")
    app.add_url_rule("/fails", view_func=lambda: str(1 / 0), endpoint="fails")
    observe(app, strict=False)
    with serving(app) as url:
        yield url


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"METRICS_TOKEN": None, "FLASK_APP": None, **environ}).invoke(cli, ["top", *arguments])


def test_once_tells_of_one_interval(shop: str) -> None:
    with traffic(f"{shop}/fine", f"{shop}/fails"):
        result = run(shop, "--once", "--interval", "0.3", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = {row["http_route"]: row for row in told["routes"]}
    assert (told["apps"], told["workers"], told["errors"]) == (["shop"], 1, [])
    assert 0.25 < told["seconds"] < 5
    assert (rows["/fine"]["error_ratio"], rows["/fails"]["error_ratio"]) == (0, 1)
    assert 0 < rows["/fine"]["p50_seconds"] <= rows["/fine"]["p95_seconds"] <= rows["/fine"]["p99_seconds"] < 1
    assert rows["/fine"]["rate_per_second"] == pytest.approx(rows["/fine"]["requests"] / told["seconds"])
    assert told["total"]["requests"] == sum(row["requests"] for row in told["routes"])


def test_text_is_a_table_with_the_totals_above_it(shop: str) -> None:
    with traffic(f"{shop}/fine", f"{shop}/fails"):
        result = run(f"{shop}/metrics", "--once", "--interval", "0.3", "--sort", "errors")
    heading, totals, _, header, first, second, *_ = result.stdout.splitlines()
    assert re.fullmatch(r"shop  over \d\.\d s  \d\d:\d\d:\d\dZ", heading)
    assert re.fullmatch(
        r"[\d.]+ requests/s   [\d.]+% errors   p50 .+ ms   p95 .+   p99 .+   \d in progress   1 worker", totals
    )
    assert header.split() == ["rate/s", "errors", "p50", "p95", "p99", "requests", "route"]
    assert re.fullmatch(r" *[\d.]+  100\.0%  .* ms +\d+  GET /fails", first)
    assert second.endswith("GET /fine")


def test_a_count_ends_it_and_each_refresh_is_an_object(shop: str) -> None:
    lines = run(shop, "--count", "3", "--interval", "0.1", "--json").stdout.splitlines()
    assert len([json.loads(line) for line in lines]) == 3


def test_several_instances_are_added_up(observe: Callable[..., Observed], shop: str) -> None:
    with serving(observe(Flask("stock")).app) as other:
        told = json.loads(run(shop, other, "--once", "--interval", "0.1", "--json").stdout)
    assert (told["apps"], told["workers"]) == (["shop", "stock"], 2)


def test_it_goes_on_while_a_server_is_away_and_when_it_is_back(
    observe: Callable[..., Observed], free_port: int
) -> None:
    app = observe(Flask("shop"), strict=False).app
    command = [sys.executable, "-c", "from flask_signal_observability.cli import cli; cli()", "top", "--json"]
    process = subprocess.Popen(
        [*command, f"127.0.0.1:{free_port}", "--interval", "0.1"], stdout=subprocess.PIPE, text=True
    )
    with bounded(process) as running:
        assert running.stdout is not None
        told = json.loads(running.stdout.readline())
        assert "Connection refused: does the app listen there?" in told["errors"][0]
        with serving(app, free_port):
            assert any(json.loads(line)["apps"] == ["shop"] for line in itertools.islice(running.stdout, 100))
        assert any(json.loads(line)["errors"] for line in itertools.islice(running.stdout, 100))


# What cannot be read.


def test_a_server_that_is_not_there_is_one_line_and_exit_code_2(free_port: int) -> None:
    result = run(f"127.0.0.1:{free_port}", "--once")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: cannot reach http://127.0.0.1:{free_port}/metrics: ")


def test_one_of_two_that_is_not_there_is_told_beside_the_other(shop: str, free_port: int) -> None:
    result = run(shop, f"127.0.0.1:{free_port}", "--once", "--interval", "0.1")
    assert result.exit_code == 2
    assert "1 worker" in result.stdout
    assert "cannot reach" in result.stderr


def test_a_token_opens_the_metrics(observe: Callable[..., Observed]) -> None:
    app = observe(Flask("shop"), metrics_access="token:open sesame").app
    with serving(app) as url:
        refused = run(url, "--once", "--interval", "0.1")
        assert refused.exit_code == 2
        assert "answered 401: the metrics want a token" in refused.stderr
        assert run(url, "--once", "--interval", "0.1", "--token", "open sesame").exit_code == 0
        assert run(url, "--once", "--interval", "0.1", METRICS_TOKEN="open sesame").exit_code == 0


def test_a_redirect_is_not_followed_with_the_token(shop: str) -> None:
    app = Flask("elsewhere")
    app.add_url_rule("/metrics", view_func=lambda: ("", 302, {"Location": f"{shop}/metrics"}), endpoint="metrics")
    with serving(app) as url:
        result = run(url, "--once", "--token", "secret")
    assert result.exit_code == 2
    assert f"answered 302 and points to '{shop}/metrics': give that address itself" in result.stderr


NO_BOUND = """\
# TYPE http_server_request_duration_seconds histogram
http_server_request_duration_seconds_bucket{le="x"} 1
"""


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<html>{", "answered no metrics: give the path of metrics_path"),
        (
            NO_BOUND,
            "has a histogram without bounds: is that an observed app?",
        ),
        ("up 1\n", "has no metrics of an observed app: is Observability(app) called there?"),
    ],
)
def test_a_page_that_holds_no_metrics_is_told(page: str, said: str) -> None:
    app = Flask("elsewhere")
    app.add_url_rule("/metrics", view_func=lambda: page, endpoint="metrics")
    with serving(app) as url:
        result = run(url, "--once")
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://user:secret@localhost", "http://", "http://localhost:0", "ftp://localhost"]
)
def test_what_is_no_address_is_refused_and_no_password_is_repeated(url: str) -> None:
    result = run(url, "--once", "--json")
    assert result.exit_code == 2
    assert "secret" not in json.loads(result.stdout)["error"]


def test_an_address_may_leave_out_what_is_usual() -> None:
    assert Target("localhost:8000").url == "http://localhost:8000/metrics"
    assert Target("https://shop.example.org/").url == "https://shop.example.org/metrics"
    assert Target("http://localhost/api/metrics").url == "http://localhost/api/metrics"
    with pytest.raises(TargetError, match="line break"):
        Target("localhost", token="a\nb")


# A terminal.

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; "


@pytest.mark.parametrize("prelude", ["", WITHOUT_RICH], ids=["rich", "plain"])
def test_on_a_terminal_it_takes_the_screen_and_leaves_the_last_table(shop: str, prelude: str) -> None:
    master, slave = pty.openpty()
    program = f"{prelude}from flask_signal_observability.cli import cli; cli()"
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
    environ.pop("NO_COLOR", None)
    with traffic(f"{shop}/fine"):
        running = subprocess.Popen(
            [sys.executable, "-c", program, "top", shop, "--interval", "0.2", "--count", "2"], stdout=slave, env=environ
        )
        os.close(slave)
        shown = b""
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:  # what Linux says where the other end is closed
            pass
        finally:
            os.close(master)
            code = running.wait(timeout=20)
    screen, left, after = shown.decode().partition("\033[?1049l")
    assert code == 0
    assert left
    assert "\033[?1049h" in screen
    assert "GET /fine" in screen
    assert "GET /fine" in after
