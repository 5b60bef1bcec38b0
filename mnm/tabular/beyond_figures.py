"""Drawings of the figures that go beyond the paper, from the numbers of beyond.py alone."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnm.tabular.experiments import Data
from mnm.tabular.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    WALL,
    draw_cells,
    draw_drift,
    new_figure,
)
from mnm.tabular.figures import draw_returns


def draw_coefficient(data: Data) -> Figure:
    """The bound with 1 and with gamma before log p/q: while planning, at random, at its best."""
    figure, (along, random, best) = new_figure(12.0, 3.8, columns=3)

    series = data["along_the_alternation"]
    along.plot(data["iterations"], series["log_return"], color=INK, label="log return")
    along.plot(
        data["iterations"], series["weight_gamma"], color=GREEN, label=r"coefficient $\gamma$"
    )
    along.plot(data["iterations"], series["weight_one"], color=BLUE, label="coefficient 1")
    along.set_title("While MnM plans")
    along.set_xlabel("iteration of the damped alternation")
    along.set_ylabel("nats")
    along.set_xlim(0, data["iterations"][-1])
    along.legend(loc="center right")
    gain = series["weight_gamma"][-1] - series["weight_one"][-1]
    along.annotate(
        f"{gain:.4f} nats apart",
        (data["iterations"][-1], series["weight_gamma"][-1]),
        xytext=(-4, -16),
        textcoords="offset points",
        ha="right",
        color=GREY,
        fontsize=9,
    )

    scatter = data["random_models"]
    discounts = np.asarray(scatter["gamma"])
    one, with_gamma = np.asarray(scatter["gap_one"]), np.asarray(scatter["gap_gamma"])
    for gamma, colour in zip(sorted(set(scatter["gamma"])), (ORANGE, SKY, PURPLE), strict=True):
        chosen = discounts == gamma
        random.loglog(
            one[chosen],
            with_gamma[chosen],
            "o",
            color=colour,
            markersize=3.5,
            alpha=0.6,
            markeredgewidth=0,
            label=rf"$\gamma$ = {gamma:g}",
        )
    limits = (0.8 * with_gamma.min(), 1.25 * one.max())
    random.plot(limits, limits, color=INK, linewidth=1, linestyle="--")
    random.set(xlim=limits, ylim=limits)
    random.set_title("Random policies and models")
    random.set_xlabel("gap with coefficient 1 (nats)")
    random.set_ylabel(r"gap with coefficient $\gamma$ (nats)")
    random.legend(loc="upper left", markerscale=1.8)

    gamma, gap_one, gap_gamma = (
        np.asarray(data["best_models"][key]) for key in ("gamma", "gap_one", "gap_gamma")
    )
    best.semilogx(1 - gamma, 100 * (1 - gap_gamma / gap_one), "o-", color=GREEN, markersize=4)
    best.invert_xaxis()
    shown = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99]
    best.set_xticks([1 - value for value in shown], [f"{value:g}" for value in shown])
    best.minorticks_off()
    best.set_ylim(0, None)
    best.set_title("Each with its own best model")
    best.set_xlabel(r"discount $\gamma$")
    best.set_ylabel(r"gap closed by coefficient $\gamma$ (%)")
    return figure


def draw_tight_bound(data: Data) -> Figure:
    """Distance of four bounds from the log return, and the tight model and stop probabilities."""
    figure, (gaps, cells) = new_figure(10.6, 4.3, columns=2, width_ratios=(1.25, 1))
    curves = (
        ("fixed_weight_one", "fixed discount, coefficient 1", BLUE, "o", 9),
        ("fixed_weight_gamma", r"fixed discount, coefficient $\gamma$", SKY, "s", 4.5),
        ("time_marginal", "stopping by time", ORANGE, "^", 4.5),
        ("tight", "stopping by state and action, tight", GREEN, "D", 4.5),
    )
    for key, label, colour, marker, size in curves:
        # Rounding may put a zero gap a hair below zero; its size is what is shown.
        gap = np.maximum(np.abs(data["gap"][key]), 1e-16)
        gaps.semilogy(data["noise"], gap, marker=marker, markersize=size, color=colour, label=label)
    gaps.axhspan(1e-17, 1e-14, color=GREEN, alpha=0.08, linewidth=0)
    gaps.text(0.45, 2.5e-14, "rounding error", fontsize=9, color=GREY, ha="center")
    gaps.set_ylim(3e-17, 3)
    gaps.set_title("How far below the log return")
    gaps.set_xlabel("noise of the grid")
    gaps.set_ylabel("gap of the optimal policy at the start (nats)")
    gaps.legend(loc="center", bbox_to_anchor=(0.6, 0.5))

    rows = len(data["walls"])
    stop = np.ma.masked_where(np.asarray(data["walls"]), np.asarray(data["stop"]))
    image = cells.imshow(stop, cmap="YlGnBu", vmin=0, extent=(-0.5, rows - 0.5, rows - 0.5, -0.5))
    draw_cells(cells, data)
    draw_drift(cells, data, data["extra_drift"], WALL, scale=0.2)
    cells.set_title("The tight model and when it stops")
    cells.set_xlabel("arrows: mean move of q* minus that of p (x 5)", fontsize=9, color=GREY)
    figure.colorbar(image, ax=cells, label="stop probability k*", shrink=0.85)
    return figure


def draw_entropy_gap(data: Data) -> Figure:
    """Gap of the best bounds against the entropy of the policy, on random MDPs."""
    figure, (broad, close) = new_figure(10.4, 4.0, columns=2, sharex=True)
    entropy = np.asarray(data["entropy"])
    for name, label, colour in (
        ("fixed", r"fixed discount, coefficient $\gamma$", SKY),
        ("tightest", "learned stopping, fixed point G", GREEN),
    ):
        _band(broad, entropy, data["gap"]["random"][name], colour, label)
    broad.set_title("Policies that know nothing of the values")
    broad.set_ylabel("gap to the log return (nats)")
    broad.set_ylim(0, None)
    broad.legend(
        loc="lower right",
        bbox_to_anchor=(0.97, 0.1),
        title="median; band: 10 % to 90 % of processes",
        title_fontsize=9,
        alignment="left",
    )

    _band(close, entropy, data["gap"]["random"]["tightest"], GREEN, "random policies: G")
    close.plot(
        entropy,
        data["gap"]["random"]["from_values"]["median"],
        color=PURPLE,
        linestyle="--",
        linewidth=1.5,
        label="random policies: V and Q instead of G",
    )
    _band(close, entropy, data["gap"]["boltzmann"]["tightest"], ORANGE, "softmax of the best Q: G")
    close.set_title("The learned-stopping gap, closer")
    close.set_ylim(0, 0.26)
    close.legend(loc="upper left")
    for axes in (broad, close):
        axes.axvline(math.log(4), color=GREY, linewidth=1, linestyle=":")
        axes.set_xlim(0, entropy[-1] * 1.02)
        axes.set_xlabel("mean entropy of the policy (nats); dotted: uniform over 4 actions")
    return figure


def draw_initial_values(data: Data) -> Figure:
    """Learning curves with every method starting equally low, and equally high."""
    figure, axes = new_figure(10.4, 3.9, columns=2, sharey=True)
    titles = {
        "pessimistic": "All start low: at a step's pay for ever",
        "optimistic": "All start high: at the goal's pay for ever",
    }
    for panel, (name, title) in zip(axes, titles.items(), strict=True):
        draw_returns(panel, data["iterations"], data[name]["returns"], data["optimum"])
        panel.set_title(title)
        panel.legend(loc="center left", bbox_to_anchor=(0.0, 0.6))
    axes[1].set_ylabel("")
    return figure


def _band(
    axes: Axes, x: np.ndarray, quantiles: dict[str, list[float]], colour: str, label: str
) -> None:
    axes.fill_between(
        x, quantiles["tenth"], quantiles["ninetieth"], color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(x, quantiles["median"], color=colour, label=label)
