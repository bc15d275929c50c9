"""The committed dashboards: as generated, as Grafana wants them, as its linter wants them, and true to the catalogue.

The linter's rules are those of https://github.com/grafana/dashboard-linter; each is the test that its name ends.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from functools import cache
from itertools import combinations
from itertools import pairwise
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import jsonschema
import promql_parser
import pytest
import yaml

from flask_signal_observability.catalogue import METRICS
from flask_signal_observability.catalogue import RUNTIME_METRICS

from .real.programs import executable

if TYPE_CHECKING:
    from collections.abc import Iterator

Dashboard = dict[str, Any]
Panel = dict[str, Any]

CHECKOUT = Path(__file__).parent.parent
DIRECTORY = CHECKOUT / "dashboards"
SCHEMAS = Path(os.environ.get("GRAFANA_SCHEMA_DIR", CHECKOUT.parent / "shared" / "grafana"))
DASHBOARDS: dict[str, Dashboard] = {
    path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))
}
NAMES = ["errors", "overview", "route", "telemetry", "workers"]
FAMILIES = {**METRICS, **RUNTIME_METRICS}

SCRAPE_METRICS = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
SCRAPE_LABELS = {"job", "instance", "le"}
RATE_INTERVAL = timedelta(seconds=61)
VALUES = {"__rate_interval": "61s", "__range": "3601s", "__interval": "15s"}
"""What Grafana puts in; of a length that no query says itself."""

RECORDED = re.compile(r"flask_app:http_server_(errors|slow):ratio_rate\w+")
BUILT_IN = {"__url_time_range", "__data"}

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())


def panels(dashboard: Dashboard) -> list[Panel]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


ALL_PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}") for name in DASHBOARDS for panel in panels(DASHBOARDS[name])
]
each_panel = pytest.mark.parametrize("panel", ALL_PANELS)


def variables(dashboard: Dashboard, kind: str = "query") -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"] if variable["type"] == kind}


def substituted(text: str) -> str:
    """Put values in for variables, as Grafana does; a choice becomes a text that says so."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: VALUES.get(found[1], f"chosen {found[1]}"), text)


@cache
def parsed(expression: str) -> promql_parser.Expr:
    return promql_parser.parse(substituted(expression))


def expressions(panel: Panel) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def annotations(dashboard: Dashboard) -> list[str]:
    return [mark["expr"] for mark in dashboard["annotations"]["list"] if "expr" in mark]


def of_variable(variable: dict[str, Any]) -> tuple[str, str]:
    found = re.fullmatch(r"label_values\((\w+(?:\{.*\})?), (\w+)\)", variable["query"])
    assert found, variable["query"]
    return found[1], found[2]


def every_expression() -> list[str]:
    of_panels = [
        expression for dashboard in DASHBOARDS.values() for p in panels(dashboard) for expression in expressions(p)
    ]
    of_marks = [expression for dashboard in DASHBOARDS.values() for expression in annotations(dashboard)]
    of_variables = [of_variable(v)[0] for dashboard in DASHBOARDS.values() for v in variables(dashboard).values()]
    return [*of_panels, *of_marks, *of_variables]


def walk(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node of a query with those above it, the nearest last."""
    yield node, above
    for name in ("lhs", "rhs", "expr", "args", "vector_selector", "param"):
        below = getattr(node, name, None)
        for child in below if isinstance(below, list) else [below]:
            if child is not None:
                yield from walk(child, (*above, node))


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    return [node for node, _ in walk(parsed(expression)) if isinstance(node, promql_parser.VectorSelector)]


def matchers(selector: promql_parser.VectorSelector) -> set[tuple[str, str, str]]:
    return {(matcher.name, str(matcher.op), matcher.value) for matcher in selector.matchers.matchers}


def family(sample: str) -> str:
    return sample if sample in FAMILIES else re.sub(r"_(bucket|count|sum)$", "", sample)


def labels_of(selector: promql_parser.VectorSelector) -> tuple[str, ...]:
    metric = FAMILIES.get(family(selector.name))
    return () if metric is None else metric.labels


def grouped(expression: str) -> set[str]:
    found = (getattr(node, "modifier", None) for node, _ in walk(parsed(expression)))
    return {label for modifier in found for label in getattr(modifier, "labels", ())}


# As generated


def test_there_are_five_dashboards_with_stable_uids() -> None:
    assert list(DASHBOARDS) == NAMES
    assert [dashboard["uid"] for dashboard in DASHBOARDS.values()] == [f"fso-{name}" for name in NAMES]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Grafana's SDK needs Python 3.11")
def test_what_is_committed_is_what_build_writes() -> None:
    done = subprocess.run(
        [sys.executable, "-B", "dashboards/build.py", "--check"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# As Grafana wants them


def schema(name: str) -> dict[str, Any]:
    path = SCHEMAS / name
    if not path.is_file():
        pytest.skip(f"no {name}: set GRAFANA_SCHEMA_DIR to the directory that has it")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@each_dashboard
def test_a_dashboard_is_valid_by_grafanas_schema(dashboard: Dashboard) -> None:
    validator = jsonschema.Draft7Validator(schema("dashboard.jsonschema.json"))
    assert [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(dashboard)] == []


def test_every_unit_is_one_of_grafanas() -> None:
    definitions = schema("units.jsonschema.json")["definitions"].values()
    known = {value for unit in definitions for value in [unit.get("const"), *unit.get("enum", ())]}
    used = {panel["fieldConfig"]["defaults"]["unit"] for d in DASHBOARDS.values() for panel in panels(d)}
    assert used - known == set()


@each_dashboard
def test_a_dashboard_can_be_imported_anywhere(dashboard: Dashboard) -> None:
    assert dashboard["id"] is None
    assert 39 <= dashboard["schemaVersion"] <= 42
    assert "${DS_" not in json.dumps(dashboard)
    assert 8 <= len(dashboard["uid"]) <= 40


@each_dashboard
def test_panels_have_ids_of_their_own_and_queries_letters(dashboard: Dashboard) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert numbers == [*range(1, len(numbers) + 1)]
    for panel in panels(dashboard):
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGH"[: len(panel["targets"])]]


@each_dashboard
def test_no_panel_lies_on_another_or_beyond_the_grid(dashboard: Dashboard) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
    assert [title for title, place in places if place["x"] + place["w"] > 24] == []
    assert [
        (one, other)
        for (one, a), (other, b) in combinations(places, 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ] == []


@each_dashboard
def test_every_line_of_panels_is_full(dashboard: Dashboard) -> None:
    widths: dict[int, int] = {}
    for panel in dashboard["panels"]:
        widths[panel["gridPos"]["y"]] = widths.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(widths.values()) == {24}


@each_dashboard
def test_no_two_panels_of_a_dashboard_have_one_title(dashboard: Dashboard) -> None:
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert [title for title in titles if titles.count(title) > 1] == []


def test_links_lead_to_dashboards_that_exist() -> None:
    uids = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    linked = set(re.findall(r"/d/([\w-]+)", json.dumps(DASHBOARDS)))
    assert linked == {"fso-route"}
    assert linked <= uids


def test_the_five_are_linked_by_their_tag_and_keep_choices_and_times() -> None:
    for dashboard in DASHBOARDS.values():
        (link,) = dashboard["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(dashboard["tags"])
        assert (link["includeVars"], link["keepTime"]) == (True, True)


@each_panel
def test_a_link_of_a_table_names_columns_that_it_has_and_variables_of_its_aim(panel: Panel) -> None:
    for link in panel["fieldConfig"]["defaults"].get("links", ()):
        columns = set.intersection(*(grouped(expression) for expression in expressions(panel)))
        assert set(re.findall(r"\$\{__data\.fields\.(\w+)", link["url"])) <= columns
        aimed = {*variables(DASHBOARDS["route"]), "datasource"}
        given = {a or b for a, b in re.findall(r"var-(\w+)=|\$\{(\w+):queryparam\}", link["url"])}
        assert given == aimed


def test_tables_of_routes_lead_to_the_route() -> None:
    with_links = [
        panel["title"]
        for d in DASHBOARDS.values()
        for panel in panels(d)
        if "links" in panel["fieldConfig"]["defaults"]
    ]
    assert with_links == ["Top exceptions", "Slowest routes", "Most failing routes", "Exceptions"]


@each_panel
def test_a_table_with_links_shows_labels_as_they_are(panel: Panel) -> None:
    """A link carries what is shown: a word for an empty route would choose nothing."""
    if "links" in panel["fieldConfig"]["defaults"]:
        assert not panel["fieldConfig"]["defaults"].get("mappings")


def test_the_routes_latency_asks_for_exemplars_once() -> None:
    asked = [
        (panel["title"], target["legendFormat"])
        for dashboard in DASHBOARDS.values()
        for panel in panels(dashboard)
        for target in panel["targets"]
        if target.get("exemplar")
    ]
    assert asked == [("Latency with traces", "p99")]


def test_a_heatmap_is_made_of_buckets() -> None:
    heatmaps = [panel for d in DASHBOARDS.values() for panel in panels(d) if panel["type"] == "heatmap"]
    assert len(heatmaps) == 3
    for panel in heatmaps:
        (target,) = panel["targets"]
        assert (target["format"], target["legendFormat"]) == ("heatmap", "{{le}}")
        assert grouped(target["expr"]) == {"le"}
        assert panel["options"]["calculate"] is False


def test_quantiles_keep_the_bounds_of_their_buckets() -> None:
    asked = [
        (expression, node)
        for expression in every_expression()
        for node, _ in walk(parsed(expression))
        if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile"
    ]
    assert len(asked) > 10
    assert [expression for expression, node in asked if "le" not in node.args[1].modifier.labels] == []


def test_the_week_before_and_the_deploys_are_shown() -> None:
    assert any("offset 7d" in e for panel in panels(DASHBOARDS["overview"]) for e in expressions(panel))
    for dashboard in DASHBOARDS.values():
        marks = [mark["name"] for mark in dashboard["annotations"]["list"]]
        assert marks == ["Annotations & Alerts", "Deploys", "Process starts"]


@each_panel
def test_a_number_has_colours_of_its_own(panel: Panel) -> None:
    if panel["type"] == "stat":
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [step["value"] for step in steps] == [None, *sorted(step["value"] for step in steps[1:])]


# True to the catalogue


def test_every_metric_is_in_the_catalogue() -> None:
    used = {selector.name for expression in every_expression() for selector in selectors(expression)}
    recorded = {name for name in used if RECORDED.fullmatch(name)}
    assert {name for name in used - recorded if family(name) not in FAMILIES} == SCRAPE_METRICS


def test_every_label_is_one_that_its_metric_has() -> None:
    for expression in every_expression():
        for selector in selectors(expression):
            names = {name for name, _, _ in matchers(selector)}
            if RECORDED.fullmatch(selector.name):
                assert names <= {"job", "flask_app"}, expression
            else:
                assert names <= SCRAPE_LABELS | {*labels_of(selector)}, expression


def measured(node: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    """The selectors whose samples are in the result: not those that only say which are."""
    return [
        selector
        for selector, above in walk(node)
        if isinstance(selector, promql_parser.VectorSelector)
        and not any(
            str(getattr(over, "op", "")) in {"and", "unless"} and under is over.rhs
            for over, under in pairwise([*above, selector])
        )
    ]


def test_queries_are_grouped_by_labels_that_their_metrics_have() -> None:
    for expression in every_expression():
        for node, _ in walk(parsed(expression)):
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                for selector in measured(node):
                    assert set(node.modifier.labels) <= SCRAPE_LABELS | {*labels_of(selector)}, expression


def test_legends_name_labels_that_the_query_keeps() -> None:
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                recorded = {"job", "flask_app"} if RECORDED.search(target["expr"]) else set()
                assert named <= grouped(target["expr"]) | recorded, target["expr"]


def test_every_metric_of_the_catalogue_is_used() -> None:
    used = {family(selector.name) for expression in every_expression() for selector in selectors(expression)}
    assert set(FAMILIES) - used == set()


def test_every_label_of_the_catalogue_is_used() -> None:
    used = {
        label
        for expression in every_expression()
        for label in [
            *grouped(expression),
            *(name for selector in selectors(expression) for name, _, _ in matchers(selector)),
        ]
    }
    assert {label for metric in FAMILIES.values() for label in metric.labels} - used == set()


def test_histograms_are_asked_by_their_samples_and_other_metrics_by_their_name() -> None:
    for expression in every_expression():
        for selector in selectors(expression):
            metric = FAMILIES.get(family(selector.name))
            if metric is not None:
                assert (selector.name != metric.name) == (metric.kind == "histogram"), expression


@each_dashboard
def test_what_other_programs_expose_is_asked_of_targets_that_serve_a_chosen_app(dashboard: Dashboard) -> None:
    shared = {*RUNTIME_METRICS, *SCRAPE_METRICS, "otel_sdk_exporter_span_exported_total"}
    chosen = {name for name in ("job", "instance", "flask_app") if name in variables(dashboard)}
    for expression in [e for panel in panels(dashboard) for e in expressions(panel)]:
        for selector, above in walk(parsed(expression)):
            if isinstance(selector, promql_parser.VectorSelector) and selector.name in shared:
                joins: list[Any] = [node for node in above if str(getattr(node, "op", "")) == "and"]
                (join,) = joins
                (app,) = selectors(join.rhs.prettify())
                assert join.modifier.matching.labels == ["job", "instance"]
                assert app.name == "flask_app_info"
                assert {name for name, _, value in matchers(app) if value == f"chosen {name}"} == chosen


# What they tell


def told(panel: str, series: dict[str, str]) -> float | None:
    """The sum of what a stat or a mark tells after three hours: nothing is chosen, and it looks an hour back."""
    name, _, title = panel.partition(": ")
    asked = {p["title"]: expressions(p)[0] for p in panels(DASHBOARDS[name])}
    asked |= {m["name"]: m["expr"] for m in DASHBOARDS[name]["annotations"]["list"] if "expr" in m}
    values = {"__rate_interval": "5m", "__range": "1h"}
    wanted = {
        "expr": "sum(" + re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), asked[title]) + ")",
        "eval_time": "3h",
        "exp_samples": [{"labels": "another", "value": 0}],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [wanted],
    }
    promtool = executable("promtool", remedy="install Prometheus (Debian: apt-get install prometheus)")
    done = subprocess.run(
        [promtool, "test", "rules", "/dev/stdin"],
        input=yaml.safe_dump({"tests": [test]}),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    found = re.search(r"got: (?:nil|\{\} (\S+))$", done.stdout + done.stderr, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return None if found[1] is None else float(found[1])


APP = 'job="shop", instance="a", flask_app="shop"'
EXCEPTIONS = f'flask_exceptions_total{{{APP}, http_route="/buy", exception_type="KeyError"}}'
INFO = {f"flask_app_info{{{APP}}}": "1x180"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("values", "count"),
    [
        ("_x150 1x30", 1),
        ("_x179 1", 1),
        ("_x140 1x20 3x20", 3),
        ("_x140 4x20 1x20", 2),
        ("7x180", 0),
        ("7x150 9x30", 2),
        ("_x180", 0),
    ],
    ids=["born", "born just now", "born and grown", "born and reset", "old", "old and grown", "never"],
)
def test_an_exception_counts_from_the_first_on(values: str, count: int) -> None:
    assert told("errors: Exceptions in this time", {EXCEPTIONS: values}) == pytest.approx(count, rel=0.07)


@pytest.mark.real
def test_the_first_audit_record_that_is_lost_is_told_and_none_is_told_as_none() -> None:
    lost = 'flask_audit_records_total{job="shop", instance="a", outcome="lost"}'
    assert told("telemetry: Audit records lost", {lost: "_x150 1x30"}) == 1
    assert told("telemetry: Audit records lost", INFO) == 0


@pytest.mark.real
def test_nobody_is_satisfied_where_everything_fails() -> None:
    failed = f'{{{APP}, http_route="/buy", error_type="KeyError"'
    duration = "http_server_request_duration_seconds"
    series = {f"{duration}_count{failed}}}": "0+1x180", f'{duration}_bucket{failed}, le="0.25"}}': "0+1x180"}
    assert told("overview: Apdex", series) == 0
    assert told("overview: Apdex", INFO) is None


STARTED = 'process_start_time_seconds{job="shop", instance="a"'
STARTS = 'observability_worker_starts_total{job="shop", instance="a"}'


@pytest.mark.real
@pytest.mark.parametrize(
    ("series", "count"),
    [
        ({STARTS: "1x180", STARTED + "}": "5x150 900x30"}, 1),
        ({STARTS: "1x180", STARTED + "}": "5x180"}, 0),
        ({STARTS: "4x150 5x30", STARTED + ', worker="0"}': "5x150 900x30"}, 1),
        ({STARTS: "_x150 4x30", STARTED + ', worker="0"}': "_x150 900x30"}, 4),
    ],
    ids=["a process of its own again", "no start", "one worker again", "a new instance"],
)
def test_a_start_is_counted_once(series: dict[str, str], count: int) -> None:
    assert told("workers: Worker starts", {**INFO, **series}) == pytest.approx(count, rel=0.07)


@pytest.mark.real
def test_a_start_is_marked_of_what_serves_an_app_and_of_nothing_else() -> None:
    other = {'process_start_time_seconds{job="prometheus", instance="b"}': "5x179 900"}
    assert told("route: Process starts", {**INFO, **other}) is None
    assert told("route: Process starts", {**INFO, **other, STARTED + "}": "5x179 900"}) == 900


@pytest.mark.real
@pytest.mark.parametrize(
    ("values", "marked"),
    [("1x180", None), ("1x170 _x8 1", None), ("_x179 1", 1), ("1x60 _x117 1x2", 1)],
    ids=["always there", "missed for some scrapes", "new", "there again after two hours"],
)
def test_a_deploy_is_marked_where_its_version_is_new(values: str, marked: float | None) -> None:
    assert told("route: Deploys", {f'flask_app_info{{{APP}, service_version="2"}}': values}) == marked


# The linter's rules


@each_dashboard
def test_template_datasource_rule(dashboard: Dashboard) -> None:
    (variable,) = variables(dashboard, "datasource").values()
    assert (variable["name"], variable["label"], variable["query"]) == ("datasource", "Data source", "prometheus")


@each_dashboard
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_rule_and_template_instance_rule(dashboard: Dashboard, name: str) -> None:
    variable = variables(dashboard)[name]
    assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert (variable["label"], variable["multi"], variable["allValue"]) == (name.title(), True, ".+")


@each_dashboard
def test_template_label_promql_rule(dashboard: Dashboard) -> None:
    for name, variable in variables(dashboard).items():
        expression, label = of_variable(variable)
        assert label == name
        (selector,) = selectors(expression)
        assert label in SCRAPE_LABELS | {*labels_of(selector)}


@each_dashboard
def test_template_on_time_change_reload_rule(dashboard: Dashboard) -> None:
    assert {variable["refresh"] for variable in variables(dashboard).values()} == {2}


@each_dashboard
def test_every_choice_admits_several_values_and_all(dashboard: Dashboard) -> None:
    for variable in variables(dashboard).values():
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        assert variable["current"] == {"text": ["All"], "value": ["$__all"]}


def test_all_routes_include_urls_that_no_route_matched() -> None:
    assert variables(DASHBOARDS["route"])["http_route"]["allValue"] == ".*"


@each_dashboard
def test_template_unused_rule(dashboard: Dashboard) -> None:
    asked = [expression for panel in panels(dashboard) for expression in expressions(panel)]
    used = set(re.findall(r"\$\{?(\w+)", " ".join(asked)))
    assert used - {*VALUES} == {*variables(dashboard)}


@each_panel
def test_panel_datasource_rule(panel: Panel) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [
        chosen,
        *[chosen] * len(panel["targets"]),
    ]


@each_panel
def test_panel_title_description_rule(panel: Panel) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")


@each_panel
def test_panel_units_rule(panel: Panel) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_panel
def test_panel_no_targets_rule(panel: Panel) -> None:
    assert panel["targets"]


def test_target_promql_rule() -> None:
    assert [expression for expression in every_expression() if not selectors(expression)] == []


@each_panel
def test_target_rate_interval_rule(panel: Panel) -> None:
    for expression in expressions(panel):
        for node, above in walk(parsed(expression)):
            if isinstance(node, promql_parser.MatrixSelector) and above[-1].func.name in {"rate", "irate"}:
                assert node.range == RATE_INTERVAL, expression
        assert "$__interval" not in expression


@pytest.mark.parametrize("name", ["job", "instance"])
def test_target_job_rule_and_target_instance_rule(name: str) -> None:
    """Recorded series have no instance: a budget is an app's, whichever instance spends it."""
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            for expression in expressions(panel):
                for selector in selectors(expression):
                    expected = name == "job" or not RECORDED.fullmatch(selector.name)
                    assert ((name, "MatchOp.Re", f"chosen {name}") in matchers(selector)) == expected, expression


@each_panel
def test_target_required_matchers_rule(panel: Panel) -> None:
    """What has an app is asked for the chosen one."""
    for expression in expressions(panel):
        for selector in measured(parsed(expression)):
            expected = RECORDED.fullmatch(selector.name) is not None or "flask_app" in labels_of(selector)
            assert (("flask_app", "MatchOp.Re", "chosen flask_app") in matchers(selector)) == expected, expression


@each_panel
def test_target_counter_agg_rule(panel: Panel) -> None:
    for expression in expressions(panel):
        for node, above in walk(parsed(expression)):
            if isinstance(node, promql_parser.VectorSelector) and re.search(r"_(total|count|sum|bucket)$", node.name):
                assert isinstance(above[-1], promql_parser.MatrixSelector), expression
                births = {"min_over_time", "last_over_time"}
                assert above[-2].func.name in {"rate", "increase", *births}, expression
                assert any(isinstance(over, promql_parser.AggregateExpr) for over in above), expression


@each_panel
def test_target_logql_rule(panel: Panel) -> None:
    """No query is one of Loki's: all are asked from Prometheus."""
    assert {target["datasource"]["type"] for target in panel["targets"]} == {"prometheus"}


@each_panel
def test_legend_rule(panel: Panel) -> None:
    assert all(target["legendFormat"] for target in panel["targets"])


@each_dashboard
def test_uneditable_dashboard_rule(dashboard: Dashboard) -> None:
    assert dashboard["editable"] is False
