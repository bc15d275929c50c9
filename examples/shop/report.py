"""What arrived, on one screen: the routes, one failing request in every output, and where to look next."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from measurements import exemplar_line
from measurements import RouteStatistics
from observation import AUDIT_FILE
from observation import JOURNAL_FILE
from observation import LOG_FILE
from promql import exemplars
from promql import graph_url
from promql import QUERIES
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from traffic import FAILING_PATH

if TYPE_CHECKING:
    from agreement import Fact
    from collector import Event
    from collector import Span
    from observation import Observation
    from rich.console import Console

__all__ = ["Served", "print_report"]

ROUTES = 8
"""How many of the busiest the table shows."""
SLOW_MILLISECONDS = 100
TRACE_ID_STYLE = "bold black on yellow"


@dataclass(frozen=True)
class Served:
    """What goes on running after the report, by its address; None where it does not."""

    shop: str | None = None
    prometheus: str | None = None
    trace_ui: str | None = None


def print_report(console: Console, observed: Observation, served: Served) -> None:
    """Print what arrived; the trace id of the failing request is marked wherever it appears."""
    title(console, f"{observed.sent} requests, {len(observed.routes)} routes: what /metrics says")
    console.print(routes_table(observed.routes, observed.seconds))
    title(console, "The request that failed, by its trace id", observed.trace_id)
    for name, told in followed(observed).items():
        console.print(Text(name, "dim"))
        console.print(told)
    console.print(verdict(observed))
    if not all(fact.agrees for fact in observed.facts):
        console.print(facts_table(observed.facts))
    title(console, "Where to look next")
    for name, address in next_steps(observed, served):
        console.print(Text.assemble((f"{name:<12}", "dim"), address), soft_wrap=True)


def title(console: Console, text: str, trace_id: str = "") -> None:
    console.print()
    console.rule(Text.assemble((text, "bold"), " " if trace_id else "", (trace_id, TRACE_ID_STYLE)), align="left")


def followed(observed: Observation) -> dict[str, Text | Tree]:
    """Return what each output says of the failing request, as it stands there."""
    lines = {
        "/metrics, an exemplar": exemplar_line(observed.openmetrics, observed.trace_id),
        LOG_FILE: json.dumps(observed.failing_record, separators=(",", ":")),
        AUDIT_FILE: observed.line_of(AUDIT_FILE),
        JOURNAL_FILE: observed.line_of(JOURNAL_FILE),
    }
    told: dict[str, Text | Tree] = {name: marked(line, observed.trace_id) for name, line in lines.items()}
    return {"the trace": trace(observed), **told}


def marked(line: str, trace_id: str) -> Text:
    text = Text(line or "missing", "" if line else "red", overflow="fold")
    text.highlight_words([trace_id], TRACE_ID_STYLE)
    return text


def trace(observed: Observation) -> Text | Tree:
    if observed.endpoint is None:
        return trace_tree(observed.trace(observed.trace_id))
    if observed.undelivered:
        return Text(observed.undelivered, "red")
    return Text(f"The spans went to {observed.endpoint}; look for trace {observed.trace_id}.")


def next_steps(observed: Observation, served: Served) -> list[tuple[str, str]]:
    """Return what can be visited or run now."""
    if served.shop is None:
        return [
            ("--serve", "the shop goes on being visited, until Ctrl-C"),
            ("--stack", "and is watched by Prometheus and a trace UI in the browser"),
            ("README.md", "your own app, and a stack with Grafana, Tempo and Loki"),
        ]
    steps = [("shop", f"{served.shop}/"), ("fails", f"{served.shop}{FAILING_PATH}")]
    steps += [("metrics", f"{served.shop}/metrics"), ("files", str(observed.directory))]
    if served.prometheus:
        steps += [(name, graph_url(served.prometheus, query)) for name, query in QUERIES.items()]
        stored = exemplars(served.prometheus)
        known = "with" if observed.trace_id in stored else "without"
        steps.append(
            ("exemplars", f"{len(stored)} in Prometheus, {known} the failing request's; rules and alerts at /rules")
        )
    if served.trace_ui:
        steps.append(("trace UI", f"{served.trace_ui}/#trace={observed.trace_id}"))
    return [*steps, ("Ctrl-C", "ends all of it")]


def verdict(observed: Observation) -> Text:
    counts = ", ".join(f"{count} in {output}" for output, count in observed.totals.items())
    names = ", ".join(fact.name for fact in observed.facts)
    undelivered = f" {observed.undelivered}" if observed.undelivered else ""
    if not observed.agrees:
        answer = Text("They do not agree", "bold red")
        return answer.append_text(Text.assemble(f": {observed.sent} sent, {counts}.", (undelivered, "red")))
    return Text.assemble(("They agree", "bold green"), f" on {names}: {observed.sent} sent, {counts}.")


def routes_table(routes: dict[tuple[str, str], RouteStatistics], seconds: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("route", overflow="fold")
    for column in ("requests", "req/s", "5xx", "p50", "p95", "p99"):
        table.add_column(column, justify="right", min_width=7)
    # Where something failed comes first: that is what a screen of this kind is looked at for.
    ordered = sorted(routes.items(), key=lambda item: (not item[1].errors, -item[1].requests))
    for (method, route), statistics in ordered[:ROUTES]:
        errors = 100 * statistics.errors / statistics.requests
        table.add_row(
            Text.assemble((f"{method:<7}", "cyan"), route or "(no route)"),
            str(statistics.requests),
            f"{statistics.requests / seconds:.1f}",
            Text(f"{errors:.0f} %", "red" if errors else "dim"),
            *(milliseconds(1000 * statistics.quantile_seconds(share)) for share in (0.5, 0.95, 0.99)),
        )
    if rest := [statistics for _, statistics in ordered[ROUTES:]]:
        requests = sum(statistics.requests for statistics in rest)
        table.add_row(Text(f"and {len(rest)} more", "dim"), str(requests), f"{requests / seconds:.1f}", "", "", "", "")
    return table


def milliseconds(value: float) -> Text:
    return Text(f"{value:.1f} ms", "yellow" if value >= SLOW_MILLISECONDS else "")


def trace_tree(spans: list[Span]) -> Tree:
    """Return the trace of ``spans``, which come in the order of their start."""
    tree = Tree(Text(f"trace {spans[0].trace_id}" if spans else "no spans arrived", "dim"), guide_style="dim")
    branches = {"": tree}
    for span in spans:
        branches[span.span_id] = branch = branches.get(span.parent_id, tree).add(span_label(span))
        # Below their own span and before its children, the last of which they would seem to belong to.
        for event in span.events:
            branch.add(event_label(event))
    return tree


def event_label(event: Event) -> Text:
    detail = event.attributes.get("exception.type") or event.attributes.get("category", "")
    return Text(f"          • {event.name} {detail}".rstrip(), "magenta")


def span_label(span: Span) -> Text:
    statement = span.attributes.get("db.statement") or span.attributes.get("db.query.text")
    name = " ".join(statement.split()) if statement else span.name
    style = "bold" if span.is_server else "green" if statement else ""
    label = Text.assemble(
        (f"{span.milliseconds:8.2f} ms  ", "dim"), (name, "red" if span.is_error else style), overflow="ellipsis"
    )
    label.no_wrap = True
    if span.is_server:
        label.append(f"  → {span.attributes.get('http.response.status_code', '?')}", "bold")
    return label


def facts_table(facts: list[Fact]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    outputs = ("client", "record", "span", "metrics", "audit")
    for column in ("", "the failing request", *outputs):
        table.add_column(column, overflow="fold", justify="center" if column in outputs else "left")
    for fact in facts:
        expected = next(iter(fact.values.values()))
        marks = (mark(fact.values.get(output), expected) for output in outputs)
        table.add_row(Text(fact.name, "dim"), Text(expected), *marks)
    return table


def mark(value: str | None, expected: str) -> Text:
    if value is None:
        return Text("·", "dim")
    return Text("✓", "green") if value == expected else Text(value, "red")
