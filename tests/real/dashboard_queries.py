"""Every query of the dashboards and rules on disk, and what Grafana puts into it before it asks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

import promql_parser
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

__all__ = [
    "Query",
    "Variable",
    "alternatives",
    "grafana_escaped",
    "queries",
    "rules_for_a_young_shop",
    "substituted",
    "variables",
]

DASHBOARDS = Path(__file__).parent.parent.parent / "dashboards"

BUILT_IN = {"__rate_interval": "15s", "__interval": "1s", "__range": "60s"}
"""What Grafana knows by itself: at a scrape interval of 1 s it says 4 s and more."""
SELECTORS = (promql_parser.VectorSelector, promql_parser.MatrixSelector)
FILTERS = {"==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"}


@dataclass(frozen=True)
class Query:
    """One PromQL expression, and where it stands."""

    where: str
    expr: str
    instant: bool = False
    exemplars: bool = False

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class Variable:
    """A variable whose values Grafana asks Prometheus for."""

    name: str
    label: str
    selector: str
    all_value: str


def queries() -> list[Query]:
    """Return the queries of all panels, annotations and rules; of an alert what it compares, since it seldom holds."""
    found = [query for board in sorted(DASHBOARDS.glob("*.json")) for query in _of_dashboard(_loaded(board))]
    return found + [query for name in ("recording.yaml", "alerts.yaml") for query in _of_rules(name)]


def variables() -> list[Variable]:
    """Return the variables that are queries, each once, those first that others use."""
    found: dict[Variable, None] = {}
    for board in sorted(DASHBOARDS.glob("*.json")):
        for variable in _loaded(board)["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = variable["query"]
            text = asked["query"] if isinstance(asked, dict) else asked
            parts = re.fullmatch(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)", text)
            assert parts, f"{board.name}: ${variable['name']} asks {text!r}, which is no label_values(selector, label)"
            found[Variable(variable["name"], parts["label"], parts["selector"], variable["allValue"])] = None
    return list(found)


def substituted(expr: str, chosen: Mapping[str, str]) -> str:
    """Return ``expr`` with the values of its variables, written ``$name``, ``${name}`` or ``${name:format}``."""
    values = {**BUILT_IN, **chosen}
    return re.sub(r"\$(?:(\w+)|{(\w+)(?::\w+)?})", lambda match: values[match[1] or match[2]], expr)


def rules_for_a_young_shop(name: str) -> str:
    """Return a rule file that is evaluated every second, and sums up a minute by seconds instead of days by minutes."""
    rules, intervals = re.subn(r"(?m)^( *interval:).*$", r"\1 1s", (DASHBOARDS / "rules" / name).read_text("utf-8"))
    assert intervals
    return re.sub(r"\[\w+:\w+\]", "[1m:1s]", rules)


def grafana_escaped(values: list[str]) -> str:
    """Return several values as Grafana writes them into ``=~"..."``."""
    return "(" + "|".join(re.sub(r"[\\$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value) for value in values) + ")"


def alternatives(expr: str) -> list[str]:
    """Return ``expr`` and, of each ``or`` in it, what stands before: what stands after it is there in any case."""
    return [
        expr,
        *(part.lhs.prettify() for part in _all(promql_parser.parse(expr)) if str(getattr(part, "op", "")) == "or"),
    ]


def _all(expression: Any) -> Iterator[Any]:
    yield expression
    for part in _parts(expression):
        yield from _all(part)


def _loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def _of_dashboard(board: dict[str, Any]) -> Iterator[Query]:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            where = f"{board['uid']}: {panel['title']}, {target['refId']}"
            yield Query(where, target["expr"], bool(target.get("instant")), bool(target.get("exemplar")))
    for annotation in board["annotations"]["list"]:
        if "expr" in annotation:
            yield Query(f"{board['uid']}: annotation {annotation['name']}", annotation["expr"])


def _of_rules(name: str) -> Iterator[Query]:
    for group in yaml.safe_load(rules_for_a_young_shop(name))["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                yield Query(f"rule {rule['record']}", rule["expr"], instant=True)
                yield Query(f"record {rule['record']}", rule["record"], instant=True)
                continue
            name = " ".join((rule["alert"], rule["labels"].get("window", ""))).rstrip()
            for number, measured in enumerate(_measured(promql_parser.parse(rule["expr"])), start=1):
                yield Query(f"alert {name}, {number}", measured, instant=True)


def _measured(expression: Any) -> Iterator[str]:
    """Yield the largest parts of an expression that filter nothing."""
    if not _filters(expression):
        if _reads(expression):
            yield expression.prettify()
        return
    for part in _parts(expression):
        yield from _measured(part)


def _filters(expression: Any) -> bool:
    here = isinstance(expression, promql_parser.BinaryExpr) and str(expression.op) in FILTERS
    return here or any(_filters(part) for part in _parts(expression))


def _reads(expression: Any) -> bool:
    """Tell a query from a number such as ``14.4 * 0.001``."""
    return isinstance(expression, SELECTORS) or any(_reads(part) for part in _parts(expression))


def _parts(expression: Any) -> list[Any]:
    named = (getattr(expression, name, None) for name in ("lhs", "rhs", "expr"))
    return [part for part in (*named, *getattr(expression, "args", ())) if part is not None]
