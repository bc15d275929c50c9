"""What Prometheus makes of the scraped samples, asked through its HTTP API."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

from measurements import DURATION
from processes import await_until
from processes import get

__all__ = ["QUERIES", "ask", "exemplars", "graph_url"]

BY_ROUTE = "sum by (http_route)"
QUERIES = {
    "rate": f"{BY_ROUTE} (rate({DURATION}_count[1m]))",
    "p95": f"histogram_quantile(0.95, sum by (le) (rate({DURATION}_bucket[1m])))",
    "5xx": f'sum({DURATION}_count{{http_response_status_code=~"5.."}})',
}
SCRAPE_SECONDS = 20
"""Prometheus takes up its targets five seconds after its start."""


def ask(prometheus: str, requests: int) -> dict[str, float | None]:
    """Wait until Prometheus has scraped all ``requests``, then return what the queries give."""
    await_until(lambda: evaluate(prometheus, f"sum({DURATION}_count)") == requests, seconds=SCRAPE_SECONDS)
    return {name: evaluate(prometheus, query) for name, query in QUERIES.items()}


def evaluate(prometheus: str, query: str) -> float | None:
    """Return the value of a query that has one, None where it has none (yet)."""
    result = call(f"{prometheus}/api/v1/query", query=query)["result"]
    return float(result[0]["value"][1]) if result else None


def exemplars(prometheus: str) -> set[str]:
    """Return the trace ids of the duration exemplars that Prometheus has stored in the last minute."""
    now = time.time()
    found = call(f"{prometheus}/api/v1/query_exemplars", query=f"{DURATION}_bucket", start=now - 60, end=now)
    return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}


def call(url: str, **parameters: object) -> Any:
    return json.loads(get(f"{url}?{urlencode(parameters)}"))["data"]


def graph_url(prometheus: str, query: str) -> str:
    """Return the address of the query's graph, with exemplars, in Prometheus' own pages."""
    return f"{prometheus}/graph?{urlencode({'g0.expr': query, 'g0.tab': 0, 'g0.range_input': '5m'})}"
