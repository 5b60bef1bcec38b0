"""Drawings of the paper's five tabular figures, from the numbers of experiments.py alone."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnm.tabular.experiments import Data
from mnm.tabular.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    METHOD_COLOURS,
    METHOD_NAMES,
    ORANGE,
    RED,
    draw_cells,
    draw_drift,
    new_figure,
)


def draw_learning(data: Data) -> Figure:
    """Fraction of the optimal return against iterations; thin lines are seeds, thick ones means."""
    figure, (axes,) = new_figure(6.4, 3.9)
    draw_returns(axes, data["iterations"], data["returns"], data["optimum"])
    axes.set_title("Learning in a stochastic gridworld")
    axes.legend(loc="center left", bbox_to_anchor=(0.0, 0.62))
    return figure


def draw_returns(
    axes: Axes, iterations: list[int], returns: dict[str, list[list[float]]], optimum: float
) -> None:
    """Draw all seeds and the mean of every method as fractions of the optimum."""
    axes.axhspan(0.9, 1.0, color=ORANGE, alpha=0.15, linewidth=0)
    axes.axhline(1.0, color=INK, linewidth=1, linestyle="--")
    # The last one drawn lies on top; curves at the bottom often coincide.
    for index, (method, seeds) in enumerate(reversed(returns.items())):
        fractions = np.asarray(seeds) / optimum
        colour = METHOD_COLOURS[method]
        axes.plot(iterations, fractions.T, color=colour, linewidth=0.8, alpha=0.45)
        axes.plot(
            iterations,
            fractions.mean(axis=0),
            color=colour,
            label=f"{METHOD_NAMES[method]}, ends at {fractions[:, -1].mean():.2f}",
            linewidth=2.4,
            linestyle=("-", (0, (4, 3)), "-")[index % 3],
        )
    axes.set_xlabel("iteration (one episode of 200 steps each)")
    axes.set_ylabel("true return / optimal return")
    axes.set_ylim(-0.03, 1.08)
    axes.set_xlim(0, iterations[-1])


def draw_optimism(data: Data) -> Figure:
    """Mean moves of the real dynamics and of the best model, cell by cell."""
    figure, axes = new_figure(8.0, 4.3, columns=2)
    panels = (
        ("Real dynamics", "real_drift", GREY),
        ("MnM's model: bent towards the goal", "model_drift", BLUE),
    )
    for panel, (title, key, colour) in zip(axes, panels, strict=True):
        draw_cells(panel, data)
        draw_drift(panel, data, data[key], colour, scale=0.85)
        panel.set_title(title)
        panel.set_xlabel("arrow: mean move under uniform actions", fontsize=9, color=GREY)
    return figure


def draw_inaccurate_model(data: Data) -> Figure:
    """Paths in the real world of three agents, two of which plan with an aliased model."""
    figure, axes = new_figure(11.0, 4.2, columns=3)
    titles = {
        "mnm": "MnM, exact model",
        "mnm, aliased model": "MnM, aliased model",
        "no classifier term, aliased model": "No classifier term, aliased model",
    }
    for panel, (name, agent) in zip(axes, data["agents"].items(), strict=True):
        draw_cells(panel, data)
        for edge in np.arange(2.5, len(data["walls"]) - 1, 3):
            panel.axhline(edge, color=GREY, linewidth=0.6, alpha=0.7)
            panel.axvline(edge, color=GREY, linewidth=0.6, alpha=0.7)
        path = np.asarray(agent["path"])
        colour = BLUE if agent["reaches_goal"] else RED
        panel.plot(path[:, 1], path[:, 0], color=colour, linewidth=3, zorder=4)
        if not agent["reaches_goal"]:
            panel.plot(
                path[-1, 1],
                path[-1, 0],
                "X",
                color=RED,
                markersize=11,
                markeredgecolor="white",
                zorder=6,
            )
        ending = "reaches the goal" if agent["reaches_goal"] else "stuck at the wall"
        panel.set_title(titles[name])
        panel.set_xlabel(f"{ending}; true return {agent['true_value']:.1f}", fontsize=10)
    figure.supxlabel(
        "circle: start, star: goal; the aliased model cannot tell the cells of a 3 x 3 block apart",
        fontsize=9,
        color=GREY,
    )
    return figure


def draw_risk(data: Data) -> Figure:
    """True value at the start while planning, and the end beside what each method believes."""
    figure, (series, bars) = new_figure(9.0, 3.7, columns=2, width_ratios=(1.25, 1))
    methods = list(data["true_values"])
    for method in reversed(methods):
        values = data["true_values"][method][:21]
        series.plot(
            values,
            color=METHOD_COLOURS[method],
            label=METHOD_NAMES[method],
            linestyle=(0, (3, 2)) if method == "mnm" else "-",
            zorder=4 if method == "mnm" else 3,
        )
    series.set_title("Safe left or slippery right?")
    series.set_xlabel("iteration")
    series.set_ylabel("true return of the policy")
    series.set_xticks(range(0, 21, 5))
    series.set_xlim(0, 20)
    series.legend(loc="lower right")

    for place, method in enumerate(methods):
        final = data["final_true_value"][method]
        bars.bar(place, final, color=METHOD_COLOURS[method], width=0.6)
        bars.text(
            place,
            final - 12,
            f"{final:.1f}",
            ha="center",
            va="top",
            color="white",
            fontweight="bold",
        )
    believed = data["objectives"]["vmbpo"][-1]
    place = methods.index("vmbpo")
    bars.bar(place, believed, width=0.6, fill=False, edgecolor=RED, linestyle="--", linewidth=1.4)
    bars.text(
        place,
        believed + 8,
        f"believes {believed:.1f}",
        ha="center",
        va="bottom",
        fontsize=9,
        color=RED,
    )
    bars.set_xticks(range(len(methods)), [METHOD_NAMES[method] for method in methods])
    bars.set_ylim(0, 520)
    bars.grid(axis="x", visible=False)
    bars.set_title("True return at the end")
    return figure


def draw_bound(data: Data) -> Figure:
    """The two bounds, the log return and VMBPO's objective at the same policy and model."""
    figure, (axes,) = new_figure(6.8, 4.1)
    curves = (
        ("vmbpo", "log of VMBPO's objective", RED),
        ("log_return", "log return of the policy", INK),
        ("learned_stopping", "learned-stopping bound", GREEN),
        ("fixed", "fixed-discount bound", BLUE),
    )
    last = data["iterations"][-1]
    for key, label, colour in curves:
        axes.plot(data["iterations"], data[key], color=colour, clip_on=False)
        axes.annotate(
            label,
            (last, data[key][-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9.5,
        )
    axes.set_xlim(0, last)
    axes.set_xlabel("iteration of the damped alternation")
    axes.set_ylabel("nats")
    axes.set_title("The bounds hold at every step of the way")
    return figure
