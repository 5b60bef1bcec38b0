"""Statistics over runs that differ in their seed: aligned curves, interquartile means, intervals.

The estimators are those of Agarwal et al. (2021), "Deep reinforcement learning at the edge of the
statistical precipice": interquartile mean and stratified bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

CONFIDENCE = 0.95
RESAMPLES = 2000
TRIMMED = 0.25  # share of the runs that the interquartile mean leaves out at either end


@dataclass(frozen=True)
class Curve:
    """What one run measured while it trained.

    Attributes:
        steps: [N] real environment steps, rising.
        values: [N] such as evaluation returns.
    """

    steps: np.ndarray
    values: np.ndarray

    @staticmethod
    def of(steps: Any, values: Any) -> Curve:
        """A curve without its gaps: NaNs go, and of several values at one step the last stays."""
        table = pd.DataFrame({"steps": steps, "values": values}).dropna()
        table = table.drop_duplicates("steps", keep="last").sort_values("steps")
        return Curve(table["steps"].to_numpy(float), table["values"].to_numpy(float))


def interquartile_mean(*strata: np.ndarray, axis: int = 0) -> Any:
    """Mean of the middle half of all runs; of fewer than four runs the plain mean.

    Args:
        *strata: scores with the runs along `axis`; one array for each task, in common units.
        axis: of the runs.
    """
    from scipy import stats  # only here: it would add a fifth to the start of every actor

    return stats.trim_mean(np.concatenate(strata, axis=axis), TRIMMED, axis=axis)


def bootstrap_interval(
    *strata: np.ndarray, axis: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile bootstrap interval of the interquartile mean.

    Runs are drawn anew within each stratum.

    Args:
        *strata: as of `interquartile_mean`.
        axis: of the runs.
        seed: of the resampling.

    Returns:
        Lower and upper ends; NaN where a stratum has a single run, of which nothing can be said.
    """
    from scipy import stats

    if min(stratum.shape[axis] for stratum in strata) < 2:
        unknown = np.full_like(interquartile_mean(*strata, axis=axis), math.nan, dtype=float)
        return unknown, unknown
    interval = stats.bootstrap(
        strata,
        interquartile_mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        axis=axis,
        rng=seed,
    ).confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)


def align(curves: Sequence[Curve], interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Puts curves on the common grid of the multiples of `interval`.

    Between its measurements a curve is linear; beyond them, by half an interval or more, it has
    no value. So the widest of the runs' own intervals suits all.

    Args:
        curves: with one measurement or more each.
        interval: real steps.

    Returns:
        Steps [N] at which any curve has a value; values [curves, N], NaN where one has none.
    """
    last = max(curve.steps[-1] for curve in curves)
    grid = interval * np.arange(math.floor(last / interval + 0.5) + 1)
    values = np.stack([np.interp(grid, curve.steps, curve.values) for curve in curves])
    for row, curve in zip(values, curves, strict=True):
        outside = (grid <= curve.steps[0] - interval / 2) | (grid >= curve.steps[-1] + interval / 2)
        row[outside] = math.nan
    known = ~np.isnan(values).all(axis=0)
    return grid[known], values[:, known]


def aggregate(curves: Sequence[Curve], interval: float) -> pd.DataFrame:
    """Interquartile mean over runs and its interval along the common grid.

    Args:
        curves: of the runs; those without a measurement do not count.
        interval: real steps between two points of the grid.

    Returns:
        Columns `steps`, `runs` (that have a value there), `iqm`, `low`, `high`.
    """
    curves = [curve for curve in curves if len(curve.steps)]
    if not curves:
        return pd.DataFrame(columns=["steps", "runs", "iqm", "low", "high"], dtype=float)
    steps, values = align(curves, interval)
    table = pd.DataFrame({"steps": steps, "runs": (~np.isnan(values)).sum(axis=0)})
    # Points at which the same runs have a value are resampled together.
    patterns, groups = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for number, present in enumerate(patterns.T):
        points = np.flatnonzero(groups.reshape(-1) == number)
        scores = values[present][:, points]
        low, high = bootstrap_interval(scores)
        table.loc[points, "iqm"] = interquartile_mean(scores)
        table.loc[points, "low"], table.loc[points, "high"] = low, high
    return table


def steps_to_threshold(curve: Curve, threshold: float) -> float:
    """Real steps at the first value of at least `threshold`; NaN where there is none."""
    reached = np.flatnonzero(curve.values >= threshold)
    return float(curve.steps[reached[0]]) if len(reached) else math.nan
