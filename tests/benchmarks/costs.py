"""What a stack costs a request, from what was measured: medians, quartiles, and what is compared with what."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any
from typing import TYPE_CHECKING

from stacks import BARE
from stacks import PEERS
from stacks import STACKS
from views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

__all__ = ["cost_rows", "legend", "overhead_ratio", "quartiles"]

RATIOS = (
    "of bare: the whole request beside Flask alone",
    "of the peers: what the stack adds to Flask alone, beside what `peers` adds",
    "of its peer: the same, beside the stack named there",
)


def cost_rows(samples: Mapping[tuple[str, str], Sequence[float]]) -> list[dict[str, Any]]:
    """Return a row for each view and stack; a ratio whose other side was not measured is None.

    Args:
        samples: costs of a request, by view and stack; bare among the stacks.
    """
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    for (view, stack), values in samples.items():
        medians[view][stack] = statistics.median(values)
    return [
        {
            "view": view,
            "stack": stack,
            **quartiles(values),
            "of_bare": medians[view][stack] / medians[view][BARE],
            "over_bare": medians[view][stack] - medians[view][BARE],
            "of_peers": overhead_ratio(medians[view], stack, PEERS),
            "peer": STACKS[stack].peer,
            "of_its_peer": overhead_ratio(medians[view], stack, STACKS[stack].peer),
        }
        for (view, stack), values in samples.items()
    ]


def overhead_ratio(costs: Mapping[str, float], stack: str, other: str | None) -> float | None:
    """Return what one stack adds to bare Flask, divided by what the other one adds."""
    if stack == BARE or other is None or other not in costs:
        return None
    added, added_by_other = costs[stack] - costs[BARE], costs[other] - costs[BARE]
    return added / added_by_other if added_by_other else None


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return median, lower and upper quartile; one value alone is all three."""
    lower, median, upper = statistics.quantiles(values, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median, "lower": lower, "upper": upper}


def legend(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the stacks, views and ratios of these rows are."""
    stacks = dict.fromkeys(row["stack"] for row in rows)
    views = dict.fromkeys(row["view"] for row in rows if "view" in row)
    return [
        *(f"`{stack}`: {STACKS[stack].means}" for stack in stacks),
        *(f"view `{view}`: {VIEWS[view].does}" for view in views),
        *(RATIOS if any("of_peers" in row for row in rows) else ()),
    ]
