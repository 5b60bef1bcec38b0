"""The figures of docs/results.md: returns, the bound's gap and optimism over real steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
from matplotlib import color_sequences
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from benchmarks.learning.experiments import AS_TUNED, SOLVED, short_name
from benchmarks.learning.summary import Group
from rllib_ext.bound_view import FAR_OFF

COLORS = {"mnm": "#c8551b", "mnm-approx": "#7a4fa3", "mbpo": "#1f5fa8", "sac": "#6b7785"}
THEORY_TITLES = {"bound_gap": "log return less bound", "model_optimism": "optimism"}


def draw_returns(found: Sequence[Group], file: Path) -> None:
    """Draws interquartile means over real steps with their intervals, one panel a task."""
    envs = list(dict.fromkeys(group.env for group in found))
    figure = matplotlib.figure.Figure(figsize=(8.4 * len(envs), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for place, env in enumerate(envs):
        axes = figure.add_subplot(1, len(envs), place + 1)
        of_variants = iter(itertools.cycle(color_sequences["tab20"]))
        for group in (group for group in found if group.env == env):
            curve = group.mean_curve()
            is_tuned = group.variant == AS_TUNED
            color = COLORS[group.algo] if is_tuned else next(of_variants)
            label = f"{group.label}: {len(group.returns)} run(s)"
            axes.plot(
                curve["steps"], curve["iqm"], color=color, label=label, ls="-" if is_tuned else "--"
            )
            if is_tuned:  # the bands of all would hide each other
                axes.fill_between(
                    curve["steps"], curve["low"], curve["high"], color=color, alpha=0.2, linewidth=0
                )
        if env in SOLVED:
            axes.axhline(SOLVED[env], color="#444444", linewidth=0.8, linestyle=":")
        axes.set(xlabel="real environment steps", ylabel="evaluation return", title=short_name(env))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=110)


def draw_theory(found: Sequence[Group], file: Path) -> None:
    """Draws the gap of the bound and the model's optimism over real steps, one row a task, of runs
    that estimate the bound."""
    envs = list(dict.fromkeys(group.env for group in found))
    figure = matplotlib.figure.Figure(figsize=(9.0, 1.8 * len(envs) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(envs), len(THEORY_TITLES), squeeze=False)
    for row, env in zip(panels, envs, strict=True):
        for axes, (column, title) in zip(row, THEORY_TITLES.items(), strict=True):
            for group in (group for group in found if group.env == env):
                values = group.figure(column)
                axes.plot(values.index, values, color=COLORS[group.algo], label=group.algo)
            axes.axhline(0.0, color="#444444", linewidth=0.8, linestyle=":")
            if column == "bound_gap":
                low, high = axes.get_ylim()
                _scale_gap(axes, max(low, -FAR_OFF), min(2 * high, FAR_OFF))
            axes.set_ylabel("nats", fontsize="small")
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(f"{short_name(env)}: {title}", fontsize="small")
            axes.grid(alpha=0.3)
    for axes in panels[-1]:
        axes.set_xlabel("real environment steps")
    labels: dict[str, Line2D] = {}
    for axes in panels.flat:
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        labels.values(), labels.keys(), loc="outside upper center", ncols=len(labels), frameon=False
    )
    figure.savefig(file, dpi=110)


def _scale_gap(axes: Axes, low: float, high: float) -> None:
    """Gaps from a tenth of a nat to thousands: linear around zero, by powers of ten beyond."""
    largest = max(-low, high)
    if largest >= 10:
        axes.set_yscale("symlog")
        powers = [10.0**power for power in range(1, int(math.log10(largest)) + 1)]
        axes.set_yticks([*(-power for power in powers), 0.0, *powers])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)
