"""Quantiles of histograms, as Prometheus' ``histogram_quantile`` interpolates them."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["histogram_quantile"]

MIN_BUCKETS = 2


def histogram_quantile(quantile: float, buckets: Mapping[float, float]) -> float:
    """Return the value that the share ``quantile`` of all observations does not exceed; NaN where there are none.

    Linear within a bucket, the lowest of which begins at 0; what lies in the last one, up to infinity, is told as its
    lower bound. https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile

    Args:
        quantile: 0 to 1.
        buckets: Cumulated counts by upper bound, one of which is infinity.
    """
    bounds = sorted(buckets)
    if len(bounds) < MIN_BUCKETS or bounds[-1] != math.inf:
        return math.nan
    # Never falling: the sum of several scrapes may, by what was counted between two of them.
    counts = list(accumulate((buckets[bound] for bound in bounds), max))
    if not counts[-1] > 0:
        return math.nan
    rank = quantile * counts[-1]
    at = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if at == len(counts) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    inside = counts[at] - below
    return start + (bounds[at] - start) * ((rank - below) / inside) if inside else start
