"""The live bound beside the log return, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from distributed.collector import CutEpisode
from mnm.bound_estimate import BoundSamples, log_mean_exp

BOUND_EPISODES = 20  # real ones for the log return beside the bound
RESAMPLES = 1000
CONFIDENCE = 0.95
NO_ESTIMATE = {
    **{
        f"{name}{end}": math.nan
        for name in ("estimate", "log_return", "gap", "model_optimism")
        for end in ("", "_low", "_high")
    },
    "horizon": math.nan,
}


def play_cut_episodes(group: Any, longest: int) -> list[CutEpisode] | None:
    """Episodes of one evaluation runner, cut at `longest` steps.

    Args:
        group: RLlib's, of evaluation runners; where they are actors, the local one cannot play.
        longest: steps.

    Returns:
        None where all runners are dead, or the one that was asked dies.
    """
    remote = group.healthy_worker_ids()[:1]
    if group.num_remote_env_runners() and not remote:
        return None
    played = group.foreach_env_runner(
        lambda runner: runner.run_cut_episodes(BOUND_EPISODES, longest),
        remote_worker_ids=remote or None,
        local_env_runner=not remote,
    )
    return played[0] if played else None


def bound_summary(samples: BoundSamples, seed: int = 0) -> dict[str, float]:
    """What is read of the bound, each with a 95 % percentile interval.

    Args:
        samples: of both sides (`Agent.bound_samples`).
        seed: of the resampling.

    Returns:
        The names of `NO_ESTIMATE`, in nats: estimate of the bound, log return, gap = log_return -
        estimate, model_optimism = log return in the model - log_return.
    """
    from scipy import stats  # only here: it would add a fifth to the start of every actor

    # The networks' float32 would overflow in the sums where a model diverges.
    bounds, imagined, real = (
        values.astype(np.float64)
        for values in (samples.bounds, samples.imagined_log_returns, samples.real_log_returns)
    )
    summary: dict[str, float] = {}
    quantities: dict[str, tuple[tuple[np.ndarray, ...], Callable[..., np.ndarray]]] = {
        "estimate": ((bounds,), np.mean),
        "log_return": ((real,), log_mean_exp),
        "gap": ((bounds, real), _gap),
        "model_optimism": ((imagined, real), _optimism),
    }
    for name, (values, statistic) in quantities.items():
        interval = stats.bootstrap(
            values,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=seed,
        ).confidence_interval
        summary[name] = float(statistic(*values, axis=-1))
        summary[f"{name}_low"] = float(interval.low)
        summary[f"{name}_high"] = float(interval.high)
    summary["horizon"] = float(samples.horizon)
    return summary


def _gap(imagined: np.ndarray, real: np.ndarray, axis: int = -1) -> np.ndarray:
    return log_mean_exp(real, axis=axis) - np.mean(imagined, axis=axis)


def _optimism(imagined: np.ndarray, real: np.ndarray, axis: int = -1) -> np.ndarray:
    return log_mean_exp(imagined, axis=axis) - log_mean_exp(real, axis=axis)
