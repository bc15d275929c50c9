"""What arrived, for people: tables, one trace as a tree, the last lines of each file."""

from __future__ import annotations

import json
from typing import Any
from typing import TYPE_CHECKING

from observation import AUDIT_FILE
from observation import JOURNAL_FILE
from observation import LOG_FILE
from promql import exemplars
from promql import graph_url
from promql import QUERIES
from rich.json import JSON
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from agreement import Fact
    from collector import Event
    from collector import Span
    from measurements import RouteStatistics
    from observation import Observation
    from rich.console import Console

__all__ = ["print_report"]

RECORD_COLUMNS = ("time", "level", "request or event", "status", "ms", "trace")
SHORT_ID = 8
"""How much of a trace id the tables show; the trees and the whole record have all of it."""
LEVEL_STYLES = {"warning": "yellow", "error": "red"}
SLOW_MILLISECONDS = 100


def print_report(
    console: Console,
    observed: Observation,
    *,
    prometheus: str | None,
    queries: dict[str, float | None],
    stays: bool,
) -> None:
    """Print what arrived; ``stays`` says that Prometheus can still be visited afterwards."""
    title(console, "Metrics: what /metrics says of each route")
    console.print(routes_table(observed.routes, observed.seconds))
    if prometheus:
        title(console, "Prometheus: what it answers")
        print_prometheus(console, observed, prometheus, queries, stays=stays)
    title(console, "Traces: an order being paid, and the request that failed")
    if observed.endpoint is None:
        console.print(trace_tree(observed.fullest_trace()))
        console.print(trace_tree(observed.trace(observed.trace_id)))
    elif observed.undelivered:
        console.print(Text(observed.undelivered, "red"))
    else:
        console.print(Text(f"The spans went to {observed.endpoint}; look for trace {observed.trace_id}."))
    title(console, f"JSON records: the last of {LOG_FILE}, and one of them whole")
    console.print(records_table(observed.records()[-6:]))
    console.print(record_panel(observed.failing_record))
    title(console, f"Audit: the last lines of {AUDIT_FILE}")
    print_lines(console, observed.lines(AUDIT_FILE)[-5:])
    title(console, f"Error journal: the last line of {JOURNAL_FILE}")
    print_lines(console, observed.lines(JOURNAL_FILE)[-1:])
    title(console, "Do they agree?")
    console.print(facts_table(observed.facts))
    console.print(verdict(observed))


def title(console: Console, text: str) -> None:
    console.print()
    console.rule(Text(text, "bold"), align="left", style="dim")


def print_lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(Text(line, overflow="fold"))


def print_prometheus(
    console: Console, observed: Observation, prometheus: str, queries: dict[str, float | None], *, stays: bool
) -> None:
    for name, value in queries.items():
        console.print(Text.assemble((f"{name}: ", "dim"), ("-" if value is None else f"{value:.3g}", "bold")))
        # Not wrapped, so that it can be copied.
        console.print(Text(QUERIES[name], "cyan"), soft_wrap=True)
    stored = exemplars(prometheus)
    known = "among them the failing request's" if observed.trace_id in stored else "without the failing request's"
    console.print(f"{len(stored)} trace ids stored as exemplars, {known}.")
    if stays:
        console.print(Text(graph_url(prometheus, next(iter(QUERIES.values()))), "dim"), soft_wrap=True)
    else:
        console.print(Text("Prometheus ends with the demo; --keep leaves it running and shows its address.", "dim"))


def verdict(observed: Observation) -> Text:
    counts = ", ".join(f"{count} in {output}" for output, count in observed.totals.items())
    answer = ("They agree", "bold green") if observed.agrees else ("They do not agree", "bold red")
    undelivered = f" {observed.undelivered}" if observed.undelivered else ""
    return Text.assemble("\n", answer, f": {observed.sent} requests sent, {counts}.", (undelivered, "red"))


def routes_table(routes: dict[tuple[str, str], RouteStatistics], seconds: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("route", overflow="fold")
    for column in ("requests", "req/s", "errors", "p50", "p95"):
        table.add_column(column, justify="right", min_width=8)
    for (method, route), statistics in sorted(routes.items(), key=lambda item: -item[1].requests):
        errors = 100 * statistics.errors / statistics.requests
        table.add_row(
            Text.assemble((f"{method:<7}", "cyan"), route or "(no route)"),
            str(statistics.requests),
            f"{statistics.requests / seconds:.1f}",
            Text(f"{errors:.0f} %", "red" if errors else "dim"),
            milliseconds(1000 * statistics.quantile_seconds(0.5)),
            milliseconds(1000 * statistics.quantile_seconds(0.95)),
        )
    return table


def milliseconds(value: float) -> Text:
    return Text(f"{value:.1f} ms", "yellow" if value >= SLOW_MILLISECONDS else "")


def trace_tree(spans: list[Span]) -> Tree:
    """Return the trace of ``spans``, which come in the order of their start."""
    tree = Tree(Text(f"trace {spans[0].trace_id}" if spans else "no spans arrived", "dim"), guide_style="dim")
    branches = {"": tree}
    labels = [(span.start_ns, span.parent_id, span.span_id, span_label(span)) for span in spans]
    labels += [(event.time_ns, span.span_id, "", event_label(event)) for span in spans for event in span.events]
    for _, parent_id, span_id, label in sorted(labels, key=lambda each: each[0]):
        branch = branches.get(parent_id, tree).add(label)
        if span_id:
            branches[span_id] = branch
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


def records_table(records: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in RECORD_COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column == "ms" else "left")
    for record in records:
        seconds = record.get("duration_seconds")
        table.add_row(
            str(record.get("timestamp", ""))[11:23],
            Text(record["level"], LEVEL_STYLES.get(record["level"], "")),
            Text(subject(record)),
            str(record.get("http.response.status_code", "")),
            "" if seconds is None else f"{1000 * seconds:.1f}",
            record.get("trace_id", "")[:SHORT_ID],
        )
    return table


def subject(record: dict[str, Any]) -> str:
    """Return which request was finished, or which other event there was."""
    if record["event"] == "request_finished":
        return f"{record.get('http.request.method', '')} {record.get('url.path', '')}"
    return f"{record['event']} {record.get('exception.type', '')}"


def record_panel(record: dict[str, Any]) -> Panel:
    shown = JSON(json.dumps(record), indent=None)
    shown.text.no_wrap, shown.text.overflow = False, "fold"
    return Panel(shown, border_style="dim")


def facts_table(facts: list[Fact]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    outputs = ("client", "record", "span", "metrics", "audit")
    for column in ("", "the failing request", *outputs):
        table.add_column(column, overflow="fold", justify="center" if column in outputs else "left")
    for fact in facts:
        expected = next(iter(fact.values.values()))
        marks = (mark(fact.values.get(output), expected) for output in outputs)
        table.add_row(
            Text(fact.name, "dim"), Text(expected[:SHORT_ID] if fact.name == "trace id" else expected), *marks
        )
    return table


def mark(value: str | None, expected: str) -> Text:
    if value is None:
        return Text("·", "dim")
    return Text("✓", "green") if value == expected else Text(value, "red")
