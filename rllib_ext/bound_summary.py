"""The live bound beside the log return, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mnm.bound_estimate import log_mean_exp

RESAMPLES = 1000
CONFIDENCE = 0.95
NO_ESTIMATE = {
    **{
        f"{name}{end}": math.nan
        for name in ("estimate", "log_return", "gap")
        for end in ("", "_low", "_high")
    },
    "horizon": math.nan,
}


def bound_summary(
    imagined: np.ndarray, real: np.ndarray, horizon: int, seed: int = 0
) -> dict[str, float]:
    """Estimate of the bound, log return and their gap, each with a 95 % percentile interval.

    Args:
        imagined: [N] nats along imagined trajectories (`Agent.bound_samples`).
        real: [M] log returns of real episodes.
        horizon: steps T that both are summed over.
        seed: of the resampling.

    Returns:
        The names of `NO_ESTIMATE`, in nats; gap = log_return - estimate.
    """
    from scipy import stats  # only here: it would add a fifth to the start of every actor

    summary: dict[str, float] = {}
    quantities: dict[str, tuple[tuple[np.ndarray, ...], Callable[..., np.ndarray]]] = {
        "estimate": ((imagined,), np.mean),
        "log_return": ((real,), log_mean_exp),
        "gap": ((imagined, real), _gap),
    }
    for name, (samples, statistic) in quantities.items():
        interval = stats.bootstrap(
            samples,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=seed,
        ).confidence_interval
        summary[name] = float(statistic(*samples, axis=-1))
        summary[f"{name}_low"] = float(interval.low)
        summary[f"{name}_high"] = float(interval.high)
    summary["horizon"] = float(horizon)
    return summary


def _gap(imagined: np.ndarray, real: np.ndarray, axis: int = -1) -> np.ndarray:
    return log_mean_exp(real, axis=axis) - np.mean(imagined, axis=axis)
