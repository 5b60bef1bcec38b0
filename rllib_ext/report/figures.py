"""The report's figures as SVG; each says in one sentence what it shows, for those who hear it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mnm.tabular.figure_style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, STYLE
from rllib_ext.bound_view import BoundView
from rllib_ext.report.model_check import ModelCheck
from rllib_ext.report.runs import Group, Run
from rllib_ext.run_folder import RETURN_COLUMN

WIDTH, HEIGHT = 5.2, 3.5  # inches; its text stays readable on a telephone
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, INK)
LINES = ("-", "--", "-.")  # dotted means that runs are missing
PARTS = {  # of the learner's time: name and colour
    "update": ("joint updates", BLUE),
    "fit": ("model fit", RED),
    "imagine": ("imagining", GREEN),
    "ingest": ("taking in data", PURPLE),
    "publish": ("publishing weights", ORANGE),
    "idle": ("waiting", "#D5D5D5"),
}
SVG_STYLE = {
    **STYLE,
    "svg.fonttype": "none",  # text stays text: small, and sharp in print
    "svg.hashsalt": "mnm",  # equal figures give equal files
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
}
IN_STYLE = matplotlib.rc_context(SVG_STYLE)  # type: ignore[arg-type]
MOST_DIMENSIONS = 4  # of trajectories drawn
PATH_ROOM = 1.0  # above and below a real path, at the most, in multiples of its own range


@dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes:
        source: data URI of an SVG.
        text: what it shows, in words.
    """

    source: str
    text: str


def looks(groups: Sequence[Group]) -> dict[str, tuple[str, str]]:
    """Colour and line style of each group by its label, the same in all figures of a task."""
    pairs = zip(cycle(COLOURS), cycle(LINES), strict=False)
    return {group.label: look for group, look in zip(groups, pairs, strict=False)}


@IN_STYLE
def draw_learning_curves(
    groups: Sequence[Group], curves: Mapping[str, pd.DataFrame], env: str
) -> Picture:
    """Evaluation returns: interquartile mean and interval of each group, thin lines each run."""
    figure, axes = _new()
    sentences = []
    for group in groups:
        colour, line = looks(groups)[group.label]
        table = curves[group.label]
        if len(group.runs) > 1:
            for run in group.runs:
                own = run.curve(RETURN_COLUMN)
                axes.plot(own.steps, own.values, color=colour, linewidth=0.7, alpha=0.45)
        _band(axes, table, colour, line, f"{group.label} ({_count(len(group.runs), 'run')})")
        if len(table):
            last = table.iloc[-1]
            sentences.append(f"{group.label} ends at {last['iqm']:.4g} after {last['steps']:g}")
    axes.set(xlabel="real environment steps", ylabel="evaluation return", title=env)
    _finish(axes)
    return _picture(
        figure,
        f"Evaluation return over real environment steps on {env}: "
        f"{'; '.join(sentences) or 'no evaluation yet'}.",
    )


@IN_STYLE
def draw_bound(group: Group, tables: Mapping[str, pd.DataFrame]) -> Picture:
    """Estimate of the bound and log return of one group; without estimates that are far off.

    Args:
        group: of an algorithm with a classifier.
        tables: "estimate" and "log_return", each with `steps`, `iqm`, `low`, `high`, `runs`.
    """
    figure, axes = _new()
    view = BoundView.of(
        tables["log_return"][["iqm", "low", "high"]],
        tables["estimate"]["iqm"],
        tables["estimate"][["low", "high"]],
    )
    for name, label, colour, line in (
        ("log_return", "log return (real episodes)", BLUE, "-"),
        ("estimate", "estimate of the bound (model)", RED, "--"),
    ):
        table = tables[name]
        shown = {end: view.within(table[end]) for end in ("iqm", "low", "high")}
        _band(axes, table.assign(**shown), colour, line, label)
    title = f"{group.label} on {group.env}"
    axes.set(xlabel="real environment steps", ylabel="nats", title=title)
    view.apply(axes)
    _finish(axes)
    ends = {name: table.iloc[-1]["iqm"] for name, table in tables.items()}
    return _picture(
        figure,
        f"Bound and log return of {title}: at the end the estimate of the bound is "
        f"{ends['estimate']:.3g} nats and the log return {ends['log_return']:.3g} nats"
        f"{f'; {view.note}' if view.note else ''}.",
    )


@IN_STYLE
def draw_model_error(
    groups: Sequence[Group],
    tables: Mapping[str, pd.DataFrame],
    unchanged: Mapping[str, pd.DataFrame],
    env: str,
) -> Picture:
    """Open-loop error of the model by horizon.

    Args:
        groups: all of the task, so that each keeps its colour.
        tables: of those with a model that was checked, by label, with `steps` (the horizon), `iqm`,
            `low`, `high`, `runs`.
        unchanged: the same of predicting that nothing changes, in the episodes of each group.
        env: the task.
    """
    figure, axes = _new()
    sentences = []
    for label, table in tables.items():
        colour, line = looks(groups)[label]
        still = unchanged[label]
        axes.plot(still["steps"], still["iqm"], color=colour, linestyle=":", linewidth=1.2)
        _band(axes, table, colour, line, label)
        last = table.iloc[-1]
        sentences.append(f"{label} {last['iqm']:.3g} after {last['steps']:g} steps")
    axes.plot([], [], color=GREY, linestyle=":", label="no change predicted, each in its colour")
    axes.set(xlabel="model steps in a row", ylabel="error (standard deviations)", title=env)
    axes.set_ylim(bottom=0)
    _finish(axes, engineering=False)
    return _picture(figure, f"Error of the model by horizon on {env}: {'; '.join(sentences)}.")


@IN_STYLE
def draw_paths(run: Run, label: str, check: ModelCheck) -> Picture:
    """The dimensions of a real path that move most, beside what the model imagines."""
    moved = np.nan_to_num(check.real.std(axis=0) / check.scale)
    order = np.argsort(-moved, kind="stable")[: min(MOST_DIMENSIONS, max((moved > 0).sum(), 1))]
    dimensions = sorted(order.tolist())
    rows = math.ceil(len(dimensions) / 2)
    columns = min(2, len(dimensions))
    figure = Figure(figsize=(WIDTH, 0.6 + 1.75 * rows))
    FigureCanvasSVG(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    steps = np.arange(len(check.real))
    for panel, dimension in zip(panels, dimensions, strict=False):
        low, middle, high = np.quantile(check.imagined[..., dimension], (0.05, 0.5, 0.95), axis=0)
        panel.fill_between(steps, low, high, color=RED, alpha=0.2, linewidth=0)
        panel.plot(steps, middle, color=RED, linestyle="--", label="imagined")
        panel.plot(steps, check.real[:, dimension], color=BLUE, label="real")
        panel.set_title(f"observation {dimension}", fontsize=10, fontweight="normal")
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.set_ylim(_limits(check.real[:, dimension], low, high))
    for panel in panels[len(dimensions) :]:
        panel.set_visible(False)
    title = f"{label}, seed {run.plan.seed}, on {run.plan.env}"
    figure.supxlabel("step", fontsize=10)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.suptitle(label, x=0.02, ha="left", fontsize=11, fontweight="bold")
    return _picture(
        figure,
        f"Real and imagined trajectories of {title}: {_count(len(steps) - 1, 'step')} of "
        f"{_count(len(dimensions), 'dimension')} of the observation.",
    )


def _limits(real: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Of the vertical axis: a model that runs away must not flatten the real path."""
    bottom, top = float(real.min()), float(real.max())
    room = PATH_ROOM * max(top - bottom, 1e-3)
    lowest = float(np.min(low)) if np.isfinite(low).all() else -math.inf
    highest = float(np.max(high)) if np.isfinite(high).all() else math.inf
    ends = max(lowest, bottom - room), min(highest, top + room)
    margin = 0.05 * (max(ends[1], top) - min(ends[0], bottom) + 1e-6)
    return min(ends[0], bottom) - margin, max(ends[1], top) + margin


@IN_STYLE
def draw_time(names: Sequence[str], seconds: pd.DataFrame) -> Picture:
    """Shares of the learner's time, a bar a run.

    Args:
        names: of the runs.
        seconds: a row a run, a column for each of `PARTS`.
    """
    figure = Figure(figsize=(WIDTH, 1.2 + 0.34 * len(names)))
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    places = np.arange(len(names))
    left = np.zeros(len(names))
    shares = 100 * seconds.div(seconds.sum(axis=1).clip(lower=1e-9), axis=0)
    for part, (name, colour) in PARTS.items():
        share = shares[part].to_numpy()
        axes.barh(
            places,
            share,
            left=left,
            height=0.7,
            color=colour,
            edgecolor="white",
            linewidth=0.8,
            label=name,
        )
        left += share
    axes.set(yticks=places, yticklabels=names, xlim=(0, 100), xlabel="% of the learner's time")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper left", ncols=3)
    return _picture(figure, "Shares of the learner's time of each run; the table has the numbers.")


def _band(axes: Axes, table: pd.DataFrame, colour: str, line: str, label: str) -> None:
    """A mean with its interval; dotted where not all runs have a value."""
    whole = table["runs"] == table["runs"].max()
    # The point at which runs drop out belongs to both parts.
    axes.plot(
        table["steps"].where(whole),
        table["iqm"],
        color=colour,
        linestyle=line,
        label=label,
        marker="o",
        markersize=3.5,
    )
    if not whole.all():
        rest = ~whole | ~whole.shift(-1, fill_value=True) | ~whole.shift(1, fill_value=True)
        axes.plot(table["steps"].where(rest), table["iqm"], color=colour, linestyle=":")
    axes.fill_between(
        table["steps"].to_numpy(float),
        table["low"].to_numpy(float),
        table["high"].to_numpy(float),
        color=colour,
        alpha=0.18,
        linewidth=0,
    )


def _new() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _finish(axes: Axes, engineering: bool = True) -> None:
    """Legend above the plot, where it covers nothing; steps as 1k, 2k."""
    if engineering:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure = axes.figure
    assert isinstance(figure, Figure)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2)


def _picture(figure: Figure, text: str) -> Picture:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    content = base64.b64encode(buffer.getvalue()).decode()
    return Picture(f"data:image/svg+xml;base64,{content}", text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
