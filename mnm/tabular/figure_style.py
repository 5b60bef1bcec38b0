"""One look for all tabular figures: colours, names, grids of cells, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

# Okabe and Ito's palette, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
INK, GREY, PALE, WALL = "#222222", "#8A8A8A", "#E6E6E6", "#4A4A4A"

METHOD_COLOURS = {"mnm": BLUE, "vmbpo": RED, "q-learning": GREEN}
METHOD_NAMES = {"mnm": "MnM", "vmbpo": "VMBPO", "q-learning": "Q-learning"}

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 2.9,
    "figure.dpi": 160,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
}


def new_figure(
    width: float, height: float, columns: int = 1, **settings: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of one row of axes, in inches, without touching matplotlib's global state."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, columns, squeeze=False, **settings)[0]
    return figure, list(axes)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a timestamp or version in it, so that equal numbers give equal files."""
    figure.savefig(path, format="png", metadata={"Software": None})


def in_style() -> Any:
    """Context in which figures take this look, leaving the caller's own settings alone."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def draw_cells(axes: Axes, layout: Mapping[str, Any]) -> None:
    """Draw a grid: walls filled, start and goal marked; row 0 on top.

    Args:
        axes: where to draw.
        layout: ``walls`` ``[rows, columns]``, and (row, column) of ``start`` and ``goal``.
    """
    blocked, start, goal = np.asarray(layout["walls"]), layout["start"], layout["goal"]
    rows, columns = blocked.shape
    shown = np.ma.masked_where(~blocked, blocked)
    axes.imshow(shown, cmap=ListedColormap([WALL]), extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
    axes.set_xticks(np.arange(-0.5, columns), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(which="minor", color=PALE, linewidth=0.8)
    axes.grid(which="major", visible=False)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
    mark = {"markeredgecolor": "white", "markeredgewidth": 1, "zorder": 5, "linestyle": "none"}
    axes.plot(start[1], start[0], marker="o", markersize=10, color=INK, **mark)  # type: ignore[arg-type]
    axes.plot(goal[1], goal[0], marker="*", markersize=17, color=ORANGE, **mark)  # type: ignore[arg-type]


def draw_drift(
    axes: Axes,
    layout: Mapping[str, Any],
    drift: ArrayLike,
    colour: str,
    scale: float = 1.0,
) -> None:
    """Draw one arrow per open cell that is neither start nor goal, whose marks it would cross.

    Args:
        axes: where ``draw_cells`` has drawn the grid.
        layout: ``walls`` ``[rows, columns]``, ``start`` and ``goal``.
        drift: change of (row, column) of every state, ``[S, 2]``, in cells.
        colour: of the arrows.
        scale: cells of drift that one cell of arrow stands for.
    """
    open_cells = ~np.asarray(layout["walls"])
    for mark in ("start", "goal"):
        open_cells[tuple(layout[mark])] = False
    row, column = np.nonzero(open_cells)
    moves = np.asarray(drift).reshape(*open_cells.shape, 2)[open_cells]
    axes.quiver(
        column,
        row,
        moves[:, 1],
        moves[:, 0],
        color=colour,
        angles="xy",
        scale_units="xy",
        scale=scale,
        width=0.008,
        headwidth=4,
        pivot="middle",
        zorder=4,
    )
