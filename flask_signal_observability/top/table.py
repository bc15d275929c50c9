"""The table of routes: what the last scrapes of all targets add up to."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Literal
from typing import TYPE_CHECKING

from .quantile import histogram_quantile
from .scrape import increase
from .target import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from .scrape import Buckets
    from .scrape import Scrape
    from .scrape import Series
    from .target import Target

__all__ = ["COLUMNS", "Row", "Table", "Tables"]

Column = Literal["rate", "errors", "p50", "p95", "p99", "requests", "route"]
COLUMNS: tuple[Column, ...] = ("rate", "errors", "p50", "p95", "p99", "requests", "route")
"""What rows may be sorted by."""


@dataclass
class Row:
    """One route, or all of them."""

    app: str = ""
    method: str = ""
    route: str = ""
    requests_total: float = 0
    """Since the processes began."""
    requests: float = 0
    """Between the two scrapes."""
    errors: float = 0
    rate_per_second: float = math.nan
    buckets: Counter[float] = field(default_factory=Counter)

    def gain(self, buckets: Buckets, seconds: float | None, *, is_error: bool) -> None:
        """Add what a series counted, in so many seconds where that is known."""
        count = buckets.get(math.inf, 0)
        self.requests += count
        self.errors += count if is_error else 0
        self.buckets.update(buckets)
        if seconds:
            self.rate_per_second = (0 if math.isnan(self.rate_per_second) else self.rate_per_second) + count / seconds

    @property
    def error_ratio(self) -> float:
        """The share, 0 to 1, of requests that failed; NaN where there were none."""
        return self.errors / self.requests if self.requests else math.nan

    def quantile_seconds(self, quantile: float) -> float:
        """Return a quantile of the durations; NaN where there are none."""
        return histogram_quantile(quantile, self.buckets)

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        figures = {
            "requests_total": self.requests_total,
            "requests": self.requests,
            "rate_per_second": self.rate_per_second,
            "error_ratio": self.error_ratio,
            "p50_seconds": self.quantile_seconds(0.5),
            "p95_seconds": self.quantile_seconds(0.95),
            "p99_seconds": self.quantile_seconds(0.99),
        }
        return {name: None if math.isnan(figure) else figure for name, figure in figures.items()}

    def order(self, column: Column) -> tuple[float, str, str, str]:
        """Return what it is sorted by: figures from above, names from below, and what has no figure last."""
        figure = {
            "rate": self.rate_per_second,
            "errors": self.error_ratio,
            "p50": self.quantile_seconds(0.5),
            "p95": self.quantile_seconds(0.95),
            "p99": self.quantile_seconds(0.99),
            "requests": self.requests_total,
            "route": 0.0,
        }[column]
        return (math.inf if math.isnan(figure) else -figure, self.route, self.method, self.app)


@dataclass
class Table:
    """What all targets told."""

    seconds: float | None
    """Between the scrapes, the longest where they differ; None where there was one: it tells of all the time since."""
    rows: list[Row]
    total: Row
    active_requests: float
    workers: float
    apps: tuple[str, ...]
    problems: list[str]
    """Why targets could not be read."""

    @property
    def is_empty(self) -> bool:
        """Whether no target could be read."""
        return not self.apps and not self.rows

    def told(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "seconds": self.seconds,
            "apps": list(self.apps),
            "workers": self.workers,
            "active_requests": self.active_requests,
            "total": self.total.told(),
            "routes": [
                {"flask_app": row.app, "http_request_method": row.method, "http_route": row.route, **row.told()}
                for row in self.rows
            ],
            "errors": self.problems,
        }


class Tables:
    """Makes one table after the other."""

    def __init__(self, targets: Sequence[Target], *, sort: Column = "rate") -> None:
        self._targets = targets
        self._sort: Column = sort
        self._last: dict[str, Scrape] = {}

    def refresh(self) -> Table:
        """Scrape all targets, at once, and tell what happened since the last time; a target that fails is a problem."""
        with ThreadPoolExecutor(len(self._targets)) as pool:
            answers = list(pool.map(_asked, self._targets))
        problems = [answer for answer in answers if isinstance(answer, str)]
        pairs = []
        for target, after in zip(self._targets, answers, strict=True):
            if not isinstance(after, str):
                pairs.append((self._last.get(target.url), after))
                self._last[target.url] = after
        return make_table(pairs, problems, sort=self._sort)


def _asked(target: Target) -> Scrape | str:
    try:
        return target.scrape()
    except TargetError as error:
        return str(error)


def make_table(pairs: Iterable[tuple[Scrape | None, Scrape]], problems: list[str], *, sort: Column = "rate") -> Table:
    """Add up, for each target, what happened between its last two scrapes.

    Where no target has two, it is what happened since the processes began; a target that has one, beside others that
    have two, brings its totals alone.
    """
    pairs = list(pairs)
    is_first = all(before is None for before, _ in pairs)
    rows: dict[tuple[str, str, str], Row] = {}
    total = Row()
    longest = None
    for before, after in pairs:
        seconds = None if before is None else after.at_seconds - before.at_seconds
        if seconds is not None:
            longest = max(longest or 0.0, seconds)
            if math.isnan(total.rate_per_second):
                total.rate_per_second = 0.0
        gained = after.durations if before is None else increase(before.durations, after.durations)
        for series, buckets in after.durations.items():
            row = _row_of(rows, series)
            for each in (row, total):
                each.requests_total += buckets.get(math.inf, 0)
                if before is not None or is_first:
                    each.gain(gained[series], seconds, is_error=series.is_error)
    return Table(
        longest,
        sorted(rows.values(), key=lambda row: row.order(sort)),
        total,
        sum(after.active_requests for _, after in pairs),
        sum(after.workers for _, after in pairs),
        tuple(sorted({app for _, after in pairs for app in after.apps})),
        problems,
    )


def _row_of(rows: dict[tuple[str, str, str], Row], series: Series) -> Row:
    key = (series.app, series.method, series.route)
    return rows.setdefault(key, Row(*key))
