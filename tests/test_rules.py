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
    from mixin import rules
    from mixin.slo import Slo

    slo = Slo(window_days=7, availability_objective=0.9, latency_threshold_seconds=1.0, apdex_tolerated_seconds=2.5)
    tests = {**rule_tests.rule_tests(slo), "tests": burn_tests.budget_cases(slo)}
    for name, content in {"recording": rules.recording(slo), "alerts": rules.alerts(slo), "tests": tests}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    assert promtool("test", "rules", tmp_path / "tests.yaml") == ""


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
