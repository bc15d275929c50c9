"""A report as a picture: a bar for each stack, the part that is bare Flask darker."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from process import MissingError
from stacks import BARE
from stacks import PEER_STACKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from table import Report

__all__ = ["draw"]

GREY, OURS, PEERS = "#8a8f98", "#2b7bba", "#d9822b"
LEGEND = {"Flask alone": GREY, "this package": OURS, "the peers": PEERS}
WIDTH_INCHES, BAR_INCHES, MARGIN_INCHES = 8.0, 0.32, 1.2


def draw(report: Report, file: Path) -> None:
    """Write the picture, one panel for each view; the suffix of the file chooses its format."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise MissingError('matplotlib is missing: pip install -e ".[bench]"') from None
    views = list(dict.fromkeys(row["view"] for row in report.rows))
    panels = [[row for row in report.rows if row["view"] == view] for view in views]
    height_inches = sum(BAR_INCHES * len(rows) + MARGIN_INCHES for rows in panels)
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    figure.suptitle(report.title, fontsize="medium")
    axes = figure.subplots(len(views), 1, squeeze=False, height_ratios=[len(rows) for rows in panels])
    for (axis,), view, rows in zip(axes, views, panels, strict=True):
        panel(axis, rows)
        axis.set_title(f"view {view}", loc="left", fontsize="medium")
        axis.set_xlabel(report.unit)
    patches = [Patch(color=colour, label=label) for label, colour in LEGEND.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def panel(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    stacks = [row["stack"] for row in rows]
    medians = [row["median"] for row in rows]
    whiskers = [[row["median"] - row["lower"] for row in rows], [row["upper"] - row["median"] for row in rows]]
    spread = whiskers if any(map(any, whiskers)) else None
    axis.barh(stacks, medians, color=[colour(stack) for stack in stacks], xerr=spread, ecolor="#333333")
    if "of_bare" in rows[0]:  # costs add up; requests a second do not
        bare = next(row["median"] for row in rows if row["stack"] == BARE)
        axis.barh(stacks, [bare] * len(stacks), color=GREY)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.xaxis.set_major_formatter("{x:,.0f}")


def colour(stack: str) -> str:
    if stack in PEER_STACKS:
        return PEERS
    return OURS if stack.startswith("ours") else GREY
