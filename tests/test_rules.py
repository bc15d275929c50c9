"""The rules as Prometheus reads them, their tests by promtool, and the runbook that they point into."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from urllib.parse import urlsplit

import promql_parser
import pytest
import yaml

from flask_signal_observability.catalogue import METRICS
from flask_signal_observability.catalogue import RUNTIME_METRICS

from .real.programs import executable
from .real.prometheus import REMEDY

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARDS = Path(__file__).parent.parent / "dashboards"
RULES = DASHBOARDS / "rules"
RUNBOOK = (DASHBOARDS / "RUNBOOK.md").read_text("utf-8")
ANNOTATIONS = ["dashboard_url", "description", "runbook_url", "summary"]
PROMETHEUS_ITSELF = {"up": ("job", "instance")}
LABELS_OF_TARGETS = {"job", "instance"}


def rules_of(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((RULES / name).read_text("utf-8"))["groups"] for rule in group["rules"]]


RECORDS = rules_of("recording.yaml")
ALERTS = rules_of("alerts.yaml")
TESTS = yaml.safe_load((RULES / "tests.yaml").read_text("utf-8"))["tests"]
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})


def title(rule: dict[str, Any]) -> str:
    return " ".join((rule["alert"], *rule["labels"].values())) if "alert" in rule else str(rule["record"])


def promtool(*arguments: str | Path) -> str:
    """Return what promtool says where it finds something wrong; empty where it finds nothing."""
    program = executable("promtool", remedy=REMEDY)
    done = subprocess.run([program, *arguments], capture_output=True, timeout=300, check=False, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


# What promtool says.


@pytest.mark.real
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert promtool("check", "rules", "--lint-fatal", RULES / "recording.yaml", RULES / "alerts.yaml") == ""


@pytest.mark.real
def test_every_alert_fires_when_it_should_and_every_record_has_its_value() -> None:
    assert promtool("test", "rules", RULES / "tests.yaml") == ""


@pytest.mark.real
def test_rules_for_other_objectives_hold_their_own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DASHBOARDS)
    from mixin import burn_tests
    from mixin import rule_tests
    from mixin import symptom_tests
    from mixin.slo import Slo

    slo = Slo(
        window_days=7,
        availability_objective=0.9,
        latency_threshold_seconds=1.0,
        apdex_tolerated_seconds=2.5,
        threads_per_worker=4,
    )
    cases = [*burn_tests.budget_cases(slo), *symptom_tests.symptom_cases(slo)]
    written(tmp_path, slo, {**rule_tests.rule_tests(slo), "tests": cases})
    assert promtool("test", "rules", tmp_path / "tests.yaml") == ""


@pytest.mark.real
def test_environments_with_the_same_job_are_told_apart_by_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DASHBOARDS)
    from mixin import rule_tests
    from mixin.promtool import case
    from mixin.promtool import fires
    from mixin.promtool import rising
    from mixin.promtool import series
    from mixin.slo import Slo

    slo = Slo(group_labels=("cluster",))
    inputs = {}
    for cluster, up, failing in (("down", 0, 0), ("failing", 1, 50), ("well", 1, 0)):
        at = {"cluster": cluster, "job": "web", "instance": "a"}
        inputs[series("up", at)] = f"{up}x60"
        inputs[series("flask_app_info", {**at, "flask_app": "shop"})] = "1x60" if up else "1x5 stale"
        count = {**at, "flask_app": "shop", "error_type": "ValueError"}
        inputs[series("http_server_request_duration_seconds_count", count)] = rising((failing, 60))
    app = {"cluster": "failing", "job": "web", "flask_app": "shop"}
    checks = [
        fires(slo, "FlaskAppDown", 50, ("", {"cluster": "down", "job": "web"}, "1")),
        fires(slo, "FlaskTargetDown", 50, ("", {"cluster": "down", "job": "web", "instance": "a"}, "0")),
        fires(slo, "FlaskAvailabilityBudgetBurn", 50, *((window, app, "100%") for window in ("1h", "6h"))),
    ]
    one = case("three clusters", inputs, alert_checks=checks)
    written(tmp_path, slo, {**rule_tests.rule_tests(slo), "tests": [one]})
    assert promtool("test", "rules", tmp_path / "tests.yaml") == ""


def written(folder: Path, slo: Any, tests: dict[str, Any]) -> None:
    from mixin import rules

    for name, content in {"recording": rules.recording(slo), "alerts": rules.alerts(slo), "tests": tests}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("group_labels: [a-b]", "group_labels has 'a-b'"),
        ("group_labels: cluster", "group_labels is 'cluster'"),
        ("threads_per_worker: 0", "threads_per_worker is 0"),
    ],
)
def test_what_no_rule_could_be_written_for_is_refused(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DASHBOARDS)
    from mixin.slo import Slo
    from mixin.slo import SloError

    (tmp_path / "slo.yaml").write_text(line)
    with pytest.raises(SloError, match=said):
        Slo.load(tmp_path / "slo.yaml")


def test_an_objective_that_no_rate_can_miss_so_fast_has_no_such_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DASHBOARDS)
    from mixin.burn import budget_alerts
    from mixin.slo import Slo

    windows = [alert.labels["window"] for alert in budget_alerts(Slo(availability_objective=0.8))]
    assert Counter(windows) == {"1h": 2, "6h": 2, "1d": 4, "3d": 4}


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    expected = [check for test in TESTS for check in test.get("alert_rule_test", ())]
    fired = {title_of_firing(check, firing) for check in expected for firing in check["exp_alerts"]}
    assert fired == {title(rule) for rule in ALERTS}
    assert {check["alertname"] for check in expected} == set(ALERT_NAMES)


def title_of_firing(check: dict[str, Any], firing: dict[str, Any]) -> str:
    labels = firing["exp_labels"]
    return " ".join(filter(None, (check["alertname"], labels["severity"], labels.get("window"))))


@pytest.mark.parametrize("record", sorted({rule["record"] for rule in RECORDS}))
def test_every_record_has_a_test_of_its_value(record: str) -> None:
    asked = [check["expr"] for test in TESTS for check in test.get("promql_expr_test", ())]
    assert any(re.search(rf"\b{record}\b", expr) for expr in asked)


# What it takes, in figures: https://sre.google/workbook/alerting-on-slos/ for the budgets.


BURNS = [
    ("14.4", "1h", "5m", "2m", "page"),
    ("6", "6h", "30m", "15m", "page"),
    ("3", "1d", "2h", "1h", "ticket"),
    ("1", "3d", "6h", "3h", "ticket"),
]


@pytest.mark.parametrize("burn", BURNS, ids=lambda burn: burn[1])
@pytest.mark.parametrize(
    ("alert", "record", "budget"),
    [
        ("FlaskAvailabilityBudgetBurn", "flask_app:http_server_errors", "0.001"),
        ("FlaskLatencyBudgetBurn", "flask_app:http_server_slow", "0.01"),
        ("FlaskRouteAvailabilityBudgetBurn", "flask_app_http_route:http_server_errors", "0.001"),
        ("FlaskRouteLatencyBudgetBurn", "flask_app_http_route:http_server_slow", "0.01"),
    ],
)
def test_a_budget_burns_at_the_rates_and_in_the_windows_of_the_workbook(
    alert: str, record: str, budget: str, burn: tuple[str, ...]
) -> None:
    factor, long, short, wait, severity = burn
    (rule,) = [rule for rule in ALERTS if rule["alert"] == alert and rule["labels"]["window"] == long]
    conditions = rule["expr"].split("\nand ")
    assert conditions[:2] == [f"{record}:ratio_rate{window} > {factor} * {budget}" for window in (long, short)]
    assert conditions[2].startswith(f"sum_over_time({record}:rate5m[{long}:")
    assert conditions[2].endswith(" >= 10")
    assert (rule["for"], rule["labels"]["severity"]) == (wait, severity)


THRESHOLDS = {
    "FlaskErrorSpike": ("ticket", "5m", ["> 0.01", "> 5 *", "* 300 >= 10"]),
    "FlaskP99High": ("ticket", "15m", ["> 1", "* 300 >= 100"]),
    "FlaskRequestsPilingUp": ("page", "5m", [">= 0.75 * 1 *", "> 1.5 *", "< 0.5 *", ">= 0.5 *"]),
    "FlaskNoTraffic": ("page", "10m", ["> 0.1", "== 0", "== 0"]),
    "FlaskAppDown": ("page", "3m", ["== 0", "== 1", "== 1"]),
    "FlaskTargetDown": ("ticket", "10m", ["== 0", "== 0", "== 1"]),
    "FlaskWorkerCrashLoop": ("ticket", "5m", [">= 4", ">= 4 *", "> 0"]),
    "FlaskWorkerCpuSaturated": ("ticket", "15m", ["> 0.9"]),
    "FlaskFileDescriptorsLow": ("page", "5m", ["> 0.8"]),
    "FlaskAuditRecordsLost": ("page", "0m", ["> 0", "> 0"]),
    "FlaskTelemetryDropped": ("ticket", "0m", ["> 0", "> 0"]),
    "FlaskTelemetryErrors": ("ticket", "0m", ["> 0", "> 0"]),
    "FlaskSpansNotExported": ("ticket", "15m", ["> 0.01"]),
    "FlaskSeriesOverflow": ("ticket", "0m", ["> 0", "> 0"]),
}


def test_every_other_alert_has_these_thresholds() -> None:
    others = [rule for rule in ALERTS if "window" not in rule["labels"]]
    asked = {
        rule["alert"]: (
            rule["labels"]["severity"],
            rule["for"],
            re.findall(r"(?:\* 300 )?(?:[<>]=?|==) [\d.]+(?: \* 1(?= ))?(?: \*)?", rule["expr"]),
        )
        for rule in others
    }
    assert asked == THRESHOLDS


def test_windows_of_days_are_looked_at_less_often_and_others_twice_a_minute() -> None:
    for name in ("recording.yaml", "alerts.yaml"):
        for group in yaml.safe_load((RULES / name).read_text("utf-8"))["groups"]:
            long = [bool(re.search(r"\[\d+d:", rule["expr"])) for rule in group["rules"]]
            assert set(long) == {group["interval"] == "3m"}, group["name"]


# What a person is told.


@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_says_what_it_is_and_where_to_look(rule: dict[str, Any]) -> None:
    assert sorted(rule["annotations"]) == ANNOTATIONS
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert "{{ $labels." in rule["annotations"]["summary"]
    assert "{{ $labels.job }}" in rule["annotations"]["description"]
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("rule", ALERTS, ids=title)
def test_an_alert_links_to_a_dashboard_that_has_the_variables_it_sets(rule: dict[str, Any]) -> None:
    address = urlsplit(rule["annotations"]["dashboard_url"])
    boards = [json.loads(path.read_text("utf-8")) for path in DASHBOARDS.glob("*.json")]
    (board,) = [board for board in boards if f"/d/{board['uid']}" == address.path]
    known = {f"var-{variable['name']}" for variable in board["templating"]["list"]}
    assert set(parse_qs(address.query)) <= known


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert sorted(re.findall(r"(?m)^## (Flask\w+)$", RUNBOOK)) == ALERT_NAMES
    assert {rule["annotations"]["runbook_url"] for rule in ALERTS} == {
        f"dashboards/RUNBOOK.md#{name.lower()}" for name in ALERT_NAMES
    }


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_a_section_of_the_runbook_says_what_it_means_how_to_look_and_what_to_do(name: str) -> None:
    (section,) = re.findall(rf"(?ms)^## {name}$(.*?)(?=^## |\Z)", RUNBOOK)
    words = re.findall(r"\*\*(Means|Look|Look and do|Do)\.\*\*", section)
    assert words in (["Means", "Look", "Do"], ["Means", "Look and do"])


def test_the_runbook_inhibits_alerts_by_labels_that_both_sides_have() -> None:
    (block,) = re.findall(r"(?ms)^```yaml\n(.+?)^```", RUNBOOK)
    inhibitions = yaml.safe_load(block)["inhibit_rules"]
    for inhibition in inhibitions:
        sources, targets = (matched(inhibition[f"{side}_matchers"]) for side in ("source", "target"))
        assert sources
        assert targets
        assert not set(map(title, sources)) & set(map(title, targets))
        for rule in (*sources, *targets):
            # What a budget's alert is on is in the name of the record; one label, that of routes, apps do not have.
            known = labels_of(rule) | ({"http_route"} if "window" in rule["labels"] else set())
            assert set(inhibition["equal"]) <= known
    assert len(inhibitions) == 6


def matched(matchers: list[str]) -> list[dict[str, Any]]:
    """Return the alerts that Alertmanager's matchers choose."""
    chosen = ALERTS
    for matcher in matchers:
        (label, operator, pattern) = re.fullmatch(r'(\w+)(=~?)"(.+)"', matcher).groups()  # type: ignore[union-attr]
        wanted = pattern if operator == "=~" else re.escape(pattern)
        chosen = [r for r in chosen if re.fullmatch(wanted, {**r["labels"], "alertname": r["alert"]}.get(label, ""))]
    return chosen


def labels_of(rule: dict[str, Any]) -> set[str]:
    return {"alertname", *rule["labels"], *re.findall(r"var-(\w+)=", rule["annotations"]["dashboard_url"])}


def test_links_inside_the_runbook_lead_somewhere() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"(?m)^## (.+)$", RUNBOOK)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors


# What is asked for.


def test_no_two_rules_tell_of_the_same_under_one_name() -> None:
    told = Counter(title(rule) + str(rule.get("labels", "")) for rule in (*RECORDS, *ALERTS))
    assert [name for name, count in told.items() if count > 1] == []


def expressions() -> list[tuple[str, str]]:
    asked = re.findall(r"(?ms)^ *```promql\n(.+?)^ *```", RUNBOOK)
    assert len(asked) >= len(ALERT_NAMES)
    return [
        *((title(rule), rule["expr"]) for rule in (*RECORDS, *ALERTS)),
        *((f"runbook, query {number}", query) for number, query in enumerate(asked, start=1)),
    ]


@pytest.mark.parametrize(("where", "expr"), expressions(), ids=[where for where, _ in expressions()])
def test_every_metric_and_label_is_in_the_catalogue(where: str, expr: str) -> None:
    recorded = {rule["record"] for rule in RECORDS}
    selectors = list(selectors_of(promql_parser.parse(expr)))
    assert selectors
    for name, labels in selectors:
        if name not in recorded:
            assert labels <= known_labels(name) | LABELS_OF_TARGETS, f"{name} has no {labels} ({where})"
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", expr))))
    everything = {label for name, _ in selectors for label in recorded_or_known_labels(name)}
    assert grouped <= everything | LABELS_OF_TARGETS


def known_labels(name: str) -> set[str]:
    family = re.sub("_(bucket|count|sum)$", "", name)
    metric = METRICS.get(name) or RUNTIME_METRICS.get(name) or METRICS.get(family)
    if metric is None:
        return set(PROMETHEUS_ITSELF[name])
    return {*metric.labels, "le"} if name.endswith("_bucket") else set(metric.labels)


def recorded_or_known_labels(name: str) -> set[str]:
    return {"flask_app", "http_route"} if ":" in name else known_labels(name)


def selectors_of(expression: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the metric and the labels of every selector."""
    if isinstance(expression, promql_parser.MatrixSelector):
        expression = expression.vector_selector
    if isinstance(expression, promql_parser.VectorSelector):
        yield str(expression.name), {matcher.name for matcher in expression.matchers.matchers}
    named = (getattr(expression, name, None) for name in ("lhs", "rhs", "expr"))
    for part in (*named, *getattr(expression, "args", ())):
        if part is not None:
            yield from selectors_of(part)
