"""``flask observability config``, ``metrics`` and ``signals``."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from typing import Any
from typing import TYPE_CHECKING

import pytest
from blinker import Namespace
from click.testing import CliRunner
from flask import Flask
from flask import message_flashed
from flask import request_started
from flask.cli import ScriptInfo
from prometheus_client import Counter
from werkzeug.serving import make_server

from flask_signal_observability import access_logged
from flask_signal_observability import Config
from flask_signal_observability import event_bus
from flask_signal_observability.catalogue import LOG_EVENTS
from flask_signal_observability.catalogue import METRICS
from flask_signal_observability.catalogue import SIGNALS
from flask_signal_observability.cli import cli
from flask_signal_observability.cli import COMMANDS
from flask_signal_observability.inspection.settings import as_markdown
from flask_signal_observability.inspection.settings import meanings
from flask_signal_observability.inspection.signals import OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from .conftest import Observed


def run(app: Flask | None, *arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), obj=ScriptInfo(create_app=None if app is None else lambda: app))


def told(app: Flask, *arguments: str) -> Any:
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# The group.


def test_the_group_lists_every_command() -> None:
    listed = run(None, "--help").stdout
    assert [name for name in COMMANDS if f"\n  {name} " not in listed] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_or_commands_of_its_own(command: str) -> None:
    result = run(None, command, "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples:\n +(\w+=\S+ )?flask ", result.stdout) or "Commands:\n" in result.stdout


def test_what_flask_loads_for_every_command_imports_none_of_ours() -> None:
    program = "import sys; import flask_signal_observability.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    ours = [name for name in done.stdout.split() if name.startswith("flask_signal_observability")]
    assert ours == ["flask_signal_observability", "flask_signal_observability.cli"]
    assert "prometheus_client" not in done.stdout.split()


@pytest.mark.parametrize("command", ["config", "metrics", "signals"])
def test_looking_at_an_app_sends_no_signal(observed: Observed, command: str) -> None:
    told(observed.app, command)
    assert observed.value("flask_signals_total") == 0


@pytest.mark.parametrize("command", ["config", "metrics", "signals"])
def test_an_app_that_is_not_observed_is_told(command: str) -> None:
    result = run(Flask("bare"), command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: the app 'bare' is not observed: call Observability(app) where it is made.\n"


# config


def settings(app: Flask, *arguments: str) -> dict[str, dict[str, Any]]:
    return {setting["name"]: setting for setting in told(app, "config", *arguments)["settings"]}


def test_every_option_has_a_value_a_source_and_a_meaning(observed: Observed) -> None:
    found = settings(observed.app)
    assert list(found) == [field.name for field in dataclasses.fields(Config)]
    assert [name for name, setting in found.items() if not setting["meaning"] or not setting["source"]] == []
    assert found["metrics_path"]["value"] == "/metrics"
    assert found["max_routes"]["environment_variable"] == "OBSERVABILITY_MAX_ROUTES"


def test_each_source_is_named(observe: Callable[..., Observed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSERVABILITY_MAX_ROUTES", "7")
    monkeypatch.setenv("OBSERVABILITY_MAX_SERIES", "8")
    app = Flask("shop")
    app.config["OBSERVABILITY_EXCLUDE"] = ("/healthz",)
    app.config["OBSERVABILITY_MAX_SERIES"] = 9
    found = settings(observe(app, capture_query=True).app)
    shown = {name: (found[name]["value"], found[name]["source"]) for name in found}
    assert shown["capture_query"] == (True, "keyword")
    assert shown["exclude"] == (["/healthz"], 'app.config["OBSERVABILITY_EXCLUDE"]')
    assert shown["max_series"] == (9, 'app.config["OBSERVABILITY_MAX_SERIES"]')
    assert shown["max_routes"] == (7, "environment variable OBSERVABILITY_MAX_ROUTES")
    assert shown["service_name"] == ("shop", "app.name")
    assert shown["tracing"] == (True, "default")


def test_the_name_that_opentelemetry_gives_is_a_source(
    observe: Callable[..., Observed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    setting = settings(observe().app)["service_name"]
    assert (setting["value"], setting["source"]) == ("checkout", "environment variable OTEL_SERVICE_NAME")


def test_changed_shows_what_somebody_has_set(observe: Callable[..., Observed]) -> None:
    found = settings(observe(max_routes=1000).app, "--changed")
    assert "max_routes" in found  # given, be it what it is anyway
    assert "tracing" not in found
    assert "service_name" not in found


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_masked(observe: Callable[..., Observed], form: tuple[str, ...]) -> None:
    secret = "correct horse battery staple"
    observed = observe(metrics_access=f"token:{secret}", audit_chain=True, audit_key=secret)
    shown = run(observed.app, "config", *form).stdout
    assert secret not in shown
    assert "token:…" in shown.encode().decode("unicode_escape" if form else "utf-8")
    assert "<str, not shown>" in shown


def test_mappings_and_functions_can_be_told(observe: Callable[..., Observed]) -> None:
    found = settings(observe(metric_labels={"tenant": ("a", "b")}, user=lambda: "me").app)
    assert found["metric_labels"]["value"] == {"tenant": ["a", "b"]}
    assert "<lambda>" in found["user"]["value"]


def test_the_meaning_is_the_docstring_of_the_field() -> None:
    assert meanings()["max_routes"] == "How many routes an app's metrics tell apart, from 1; the others are `_OTHER`."


def test_the_reference_names_every_option_and_needs_no_app() -> None:
    result = run(None, "config", "--markdown")
    assert result.stdout == as_markdown()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in result.stdout.splitlines()[2:]]
    assert rows == [f"`{field.name}`" for field in dataclasses.fields(Config)]


def test_a_wrong_setting_is_one_line() -> None:
    def make() -> Flask:
        from flask_signal_observability import Observability

        return Observability(max_routes=0).init_app(Flask("shop"))

    result = CliRunner().invoke(cli, ["config"], obj=ScriptInfo(create_app=make))
    assert result.exit_code == 2
    assert result.stderr == "Error: max_routes=0: give a whole number from 1 up.\n"


# metrics


def families(app: Flask) -> dict[str, dict[str, Any]]:
    return {family["name"]: family for family in told(app, "metrics")["metrics"]}


def test_every_metric_of_the_catalogue_is_told_with_its_labels(observed: Observed) -> None:
    found = families(observed.app)
    for metric in METRICS.values():
        family = found[metric.name]
        assert (family["kind"], tuple(family["labels"]), family["help"]) == (metric.kind, metric.labels, metric.help)
        assert (family["unit"], family["origin"]) == (metric.unit, "package")


def test_series_are_those_that_are_there_now(observed: Observed) -> None:
    before = families(observed.app)["http_server_request_duration_seconds"]
    observed.client().get("/nowhere")
    after = families(observed.app)["http_server_request_duration_seconds"]
    assert (before["series"], after["series"], after["samples"]) == (0, 1, 17)


def test_watched_metrics_and_the_apps_own_are_told(observed: Observed) -> None:
    paid = Namespace().signal("order-paid")
    observed.observability.watch(paid, count="orders_paid_total", labels={"currency": ("EUR",)})
    Counter("visits", "Visits.", ["page"], registry=observed.registry).labels("home").inc()
    found = families(observed.app)
    watched, own = found["orders_paid_total"], found["visits_total"]
    assert (watched["origin"], watched["labels"]) == ("watched", ["flask_app", "currency"])
    assert (own["origin"], own["kind"], own["labels"], own["series"]) == ("app", "counter", ["page"], 1)


def test_prometheus_names_are_those_of_the_time_series(observed: Observed) -> None:
    names = run(observed.app, "metrics", "--prometheus-names").stdout.splitlines()
    assert "http_server_request_duration_seconds_bucket" in names
    assert "flask_signals_total" in names
    assert names == sorted(set(names))
    assert told(observed.app, "metrics", "--prometheus-names") == {"names": names}


def test_a_running_app_is_asked_by_its_address(observed: Observed) -> None:
    import threading

    observed.client().get("/nowhere")
    server = make_server("127.0.0.1", 0, observed.app)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        result = run(None, "metrics", f"127.0.0.1:{server.server_port}", "--json")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found = {family["name"]: family for family in json.loads(result.stdout)["metrics"]}
    assert found["http_server_request_duration_seconds"]["series"] == 1
    assert found["flask_app_info"]["labels"] == list(METRICS["flask_app_info"].labels)
    assert {name for name in found if name in METRICS} == set(METRICS)


def test_text_says_what_each_is(observed: Observed) -> None:
    shown = run(observed.app, "metrics").stdout
    assert "http_server_request_duration_seconds  histogram in seconds, 0 series (package)" in shown
    assert shown.splitlines()[-1].endswith(" time series")


def test_without_metrics_there_is_nothing_to_show(observe: Callable[..., Observed]) -> None:
    result = run(observe(metrics=False).app, "metrics")
    assert result.exit_code == 2
    assert "exports no metrics: its setting metrics is False" in result.stderr


# signals


def signals(app: Flask) -> dict[str, dict[str, Any]]:
    return {signal["name"]: signal for signal in told(app, "signals")["signals"]}


def test_each_of_flasks_signals_is_told(observed: Observed) -> None:
    found = signals(observed.app)
    assert {name for name, signal in found.items() if signal["kind"] == "flask"} == set(SIGNALS)
    assert all(found[name]["is_observed"] and found[name]["outputs"] for name in SIGNALS)


def test_who_else_listens_is_named_and_who_waits_for_another_is_counted(observed: Observed) -> None:
    def on_request(sender: Flask, **_: object) -> None: ...

    class Mailer:
        def on_flash(self, sender: Flask, **_: object) -> None: ...

    mailer, other = Mailer(), Flask("other")
    request_started.connect(on_request, observed.app)
    message_flashed.connect(mailer.on_flash, other)
    before = signals(observed.app)
    try:
        (listener,) = before["request_started"]["listeners"]
        assert listener.endswith(".on_request")
        assert before["message_flashed"]["listeners"] == []
        assert before["message_flashed"]["listeners_to_others"] >= 1
    finally:
        request_started.disconnect(on_request, observed.app)
        message_flashed.disconnect(mailer.on_flash, other)
    assert signals(observed.app)["request_started"]["listeners"] == []


def test_a_signal_that_is_left_alone_is_not_observed(observe: Callable[..., Observed]) -> None:
    found = signals(observe(context_signals=False).app)
    assert (found["appcontext_pushed"]["is_observed"], found["appcontext_pushed"]["outputs"]) == (False, [])
    assert found["request_started"]["is_observed"]


def test_outputs_that_are_off_are_not_told(observe: Callable[..., Observed]) -> None:
    found = signals(observe(metrics=False, logs=False, audit=False).app)
    assert found["got_request_exception"]["outputs"] == ["span event exception, status ERROR"]
    assert found["access-event"]["outputs"] == []


def test_a_watched_signal_says_what_becomes_of_it(observed: Observed) -> None:
    paid = Namespace().signal("order-paid")
    watch = observed.observability.watch(
        paid,
        count="orders_paid_total",
        labels={"currency": ("EUR",)},
        span_event="order.paid",
        log="info",
        audit="{user} paid {amount}",
    )
    signal = signals(observed.app)["order-paid"]
    assert (signal["kind"], signal["is_observed"], signal["listeners"]) == ("watched", True, [])
    assert signal["outputs"] == [
        "counter orders_paid_total by currency",
        "span event order.paid",
        "record order-paid (info)",
        "audit line '{user} paid {amount}'",
    ]
    watch.stop()
    assert "order-paid" not in signals(observed.app)


def test_a_signal_of_the_package_that_is_watched_still_becomes_its_line(observed: Observed) -> None:
    observed.observability.watch(access_logged, count="accesses_total")
    outputs = signals(observed.app)["access-event"]["outputs"]
    assert outputs == ["counter accesses_total", "line of the audit file"]


def test_a_signal_of_the_event_bus_that_nobody_watches_is_told(observed: Observed) -> None:
    event_bus.signal("cart-emptied")
    try:
        found = signals(observed.app)
        assert (found["cart-emptied"]["kind"], found["cart-emptied"]["outputs"]) == ("unwatched", [])
        assert found["access-event"]["outputs"] == ["line of the audit file"]
        assert "cart-emptied  (unwatched, not observed)" in run(observed.app, "signals").stdout
    finally:
        del event_bus["cart-emptied"]


def test_what_is_said_of_flasks_signals_names_metrics_and_records_that_exist() -> None:
    assert set(OUTPUTS) == set(SIGNALS)
    texts = [(sink, text) for outputs in OUTPUTS.values() for sink, text in outputs]
    assert [text for sink, text in texts if sink == "metrics" and text not in METRICS] == []
    records = [text.partition("record ")[2].split()[0] for sink, text in texts if sink == "logs"]
    assert [name for name in records if name not in LOG_EVENTS] == []


def test_commands_find_the_app_as_flask_does(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\nfrom flask_signal_observability import Observability\n"
        "app = Flask('shop')\nObservability(app)\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("FLASK_", "OBSERVABILITY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", "observability", "metrics", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environ,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = {family["name"]: family for family in json.loads(done.stdout)["metrics"]}
    assert found["flask_app_info"]["series"] == 1
