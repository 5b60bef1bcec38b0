"""Pictures of an inspection: error by horizon, calibration, the classifier's reliability."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from mnm.diagnostics import Reliability
from rllib_ext.inspection import LEVELS, Inspection, known_mean

ERROR_FILE = "model_error.png"
CALIBRATION_FILE = "calibration.png"
CLASSIFIER_FILE = "classifier.png"
DPI = 150
BLUE, ORANGE, GREY = "#1f5fa8", "#c8551b", "#9aa5b1"


def draw(inspection: Inspection, folder: Path) -> list[Path]:
    """Draws all pictures there are figures for; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        ERROR_FILE: _error(inspection),
        CALIBRATION_FILE: _calibration(inspection),
    }
    if inspection.classifier is not None:
        figures[CLASSIFIER_FILE] = _classifier(inspection.classifier)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=DPI)
    return [folder / name for name in figures]


def _figure(columns: int) -> tuple[matplotlib.figure.Figure, list]:
    figure = matplotlib.figure.Figure(figsize=(5.2 * columns, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def _error(inspection: Inspection) -> matplotlib.figure.Figure:
    figure, (means, single) = _figure(2)
    judged = inspection.open_loop
    steps = np.arange(1, len(judged.starts) + 1)
    for values, label, color, style in (
        (judged.rmse, "error of the prediction", BLUE, "-"),
        (judged.spread, "predicted standard deviation", ORANGE, "--"),
        (judged.unmoved, "error of 'nothing moves'", GREY, ":"),
    ):
        relative = values / inspection.scale
        means.plot(steps, known_mean(relative), label=label, color=color, linestyle=style)
    means.set(xlabel="steps ahead", ylabel="standard deviations of the data", ylim=(0, None))
    means.set_title("mean over the dimensions")
    means.legend(frameon=False)
    for axis in (means, single):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    relative = judged.rmse / inspection.scale
    single.plot(steps, relative, color=BLUE, alpha=0.25, linewidth=1)
    worst = int(np.nanargmax(np.nan_to_num(relative[-1], posinf=np.finfo(float).max)))
    single.plot(steps, relative[:, worst], color=ORANGE, label=f"dimension {worst}")
    single.set(xlabel="steps ahead", ylim=(0, None), title="error of each dimension")
    single.legend(frameon=False)
    return figure


def _calibration(inspection: Inspection) -> matplotlib.figure.Figure:
    figure, (intervals, histogram) = _figure(2)
    intervals.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="right variance")
    moving = inspection.moving
    if moving.any():
        covered = inspection.covered[:, moving]
        intervals.plot(LEVELS, covered, color=BLUE, alpha=0.25, linewidth=1)
        intervals.plot(LEVELS, covered.mean(1), color=BLUE, marker="o", label="observed")
        quantiles = inspection.one_step.quantiles[:, moving].ravel()
        histogram.hist(quantiles, 20, range=(0, 1), density=True, color=BLUE)
    intervals.set(xlabel="predicted interval", ylabel="share of the rows within it")
    intervals.set_title("one-step intervals: below the line, too sure")
    intervals.legend(frameon=False)
    histogram.axhline(1.0, color=GREY, linestyle=":")
    histogram.set(xlabel="quantile of the prediction", ylabel="density", title="flat where right")
    return figure


def _classifier(judged: Reliability) -> matplotlib.figure.Figure:
    figure, (shares, counts) = _figure(2)
    shares.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="right probability")
    filled = judged.counts > 0
    hits = np.rint(judged.observed[filled] * judged.counts[filled]).astype(int)
    intervals = [
        binomtest(hit, count).proportion_ci(method="wilson")
        for hit, count in zip(hits.tolist(), judged.counts[filled].tolist(), strict=True)
    ]
    shares.errorbar(
        judged.predicted[filled],
        judged.observed[filled],
        [
            np.maximum(judged.observed[filled] - [interval.low for interval in intervals], 0),
            np.maximum([interval.high for interval in intervals] - judged.observed[filled], 0),
        ],
        color=BLUE,
        fmt="o",
        label="observed, with 95 % interval",
    )
    shares.set(xlabel="predicted probability of 'real'", ylabel="share that is real")
    shares.legend(frameon=False)
    edges = np.linspace(0, 1, len(judged.counts) + 1)
    counts.bar(edges[:-1], judged.counts, np.diff(edges), align="edge", color=BLUE)
    counts.set(xlabel="predicted probability of 'real'", ylabel="rows, real and imagined")
    return figure
