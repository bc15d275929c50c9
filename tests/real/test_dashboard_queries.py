"""Every query of every panel, variable, annotation, rule and alert, asked of a Prometheus that scraped the shop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .dashboard_queries import alternatives
from .dashboard_queries import grafana_escaped
from .dashboard_queries import queries
from .dashboard_queries import substituted
from .dashboard_queries import Variable
from .dashboard_queries import variables
from .scraped_shop import scraped_shop
from .scraped_shop import ScrapedShop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .dashboard_queries import Query

pytestmark = pytest.mark.real

QUERIES = queries()
VARIABLES = variables()

MAY_BE_EMPTY = {
    "offset 7d": "there was no shop a week ago",
    "offset 23h30m": "there was no shop yesterday",
    "offset 1h": "there was no shop an hour ago",
    "offset 15m": "there was no shop a quarter of an hour ago",
    'worker=""': "both shops are served by gunicorn, whose workers have numbers",
    'observability_dropped_total{reason!="export"}': "nothing but spans was dropped",
}
"""By a part of the query. What stands here and has data is a failure, too, and so is what no query has."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScrapedShop]:
    with scraped_shop(tmp_path_factory.mktemp("dashboards")) as scraped:
        yield scraped


@pytest.fixture(scope="module")
def all_of_them() -> dict[str, str]:
    """The variables as they are when a dashboard is opened: All."""
    return {variable.name: variable.all_value for variable in VARIABLES}


@pytest.fixture(scope="module")
def each_of_them(shop: ScrapedShop, all_of_them: dict[str, str]) -> dict[str, str]:
    """The variables with every value chosen by hand; an empty route, which is not offered, by a link of a table."""
    empty = {each.name: [""] if re.fullmatch(each.all_value, "") else [] for each in VARIABLES}
    return {each.name: grafana_escaped(offered(shop, each, all_of_them) + empty[each.name]) for each in VARIABLES}


def offered(shop: ScrapedShop, variable: Variable, chosen: dict[str, str]) -> list[str]:
    return shop.label_values(variable.label, substituted(variable.selector, chosen))


def test_there_are_queries_of_five_dashboards_and_of_the_rules() -> None:
    assert len({query.where.split(":")[0] for query in QUERIES if query.where.startswith("fso-")}) == 5
    assert any(query.where.startswith("record ") for query in QUERIES)
    assert any(query.where.startswith("alert ") for query in QUERIES)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: f"{variable.name} of {variable.selector}")
def test_a_variable_offers_values(shop: ScrapedShop, all_of_them: dict[str, str], variable: Variable) -> None:
    assert offered(shop, variable, all_of_them)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_query_returns_data(shop: ScrapedShop, all_of_them: dict[str, str], query: Query) -> None:
    for expr in alternatives(asked(query, all_of_them)):
        _, *smaller = alternatives(expr)
        listed = [part for part in MAY_BE_EMPTY if part in expr and not any(part in other for other in smaller)]
        reasons = [MAY_BE_EMPTY[part] for part in listed]
        data = shop.series(expr, instant=query.instant)
        if reasons:
            assert not data, f"has data although {reasons}: {expr}"
        else:
            assert data, f"no data: {expr}"


@pytest.mark.parametrize("query", [query for query in QUERIES if "$" in query.expr], ids=str)
def test_a_query_returns_the_same_series_for_values_that_are_chosen(
    shop: ScrapedShop, all_of_them: dict[str, str], each_of_them: dict[str, str], query: Query
) -> None:
    every = shop.series(asked(query, all_of_them), instant=query.instant)
    chosen = shop.series(asked(query, each_of_them), instant=query.instant)
    assert set(chosen) == set(every)


@pytest.mark.parametrize("query", [query for query in QUERIES if "$job" in query.expr], ids=str)
def test_a_query_shows_nothing_of_what_is_no_flask_app(
    shop: ScrapedShop, all_of_them: dict[str, str], query: Query
) -> None:
    found = shop.series(asked(query, {**all_of_them, "job": "prometheus"}), instant=query.instant)
    assert {value for values in found.values() for value in values} <= ({0} if "vector(0)" in query.expr else set())


def test_prometheus_has_what_a_query_could_show_by_mistake(shop: ScrapedShop) -> None:
    for metric in ("up", "scrape_duration_seconds", "process_start_time_seconds", "process_cpu_seconds_total"):
        assert shop.series(f'{metric}{{job="prometheus"}}', instant=True)


@pytest.mark.parametrize("query", [query for query in QUERIES if query.exemplars], ids=str)
def test_a_panel_that_shows_exemplars_has_some(shop: ScrapedShop, all_of_them: dict[str, str], query: Query) -> None:
    assert all(exemplar["labels"]["trace_id"] for exemplar in shop.exemplars(asked(query, all_of_them)))
    assert shop.exemplars(asked(query, all_of_them))


def test_what_may_be_empty_is_asked_for() -> None:
    assert [part for part in MAY_BE_EMPTY if not any(part in query.expr for query in QUERIES)] == []


def test_prometheus_evaluates_every_rule_without_an_error(shop: ScrapedShop) -> None:
    rules = shop.rules()
    assert rules
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def asked(query: Query, chosen: dict[str, str]) -> str:
    expr = substituted(query.expr, chosen)
    assert not re.search(r"\$[{\w]", expr), f"a variable is left in {expr}"
    return expr
