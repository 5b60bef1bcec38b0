"""RLlib's metrics of sampled steps and episodes, made without its logger's cost per value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.rllib.core import DEFAULT_AGENT_ID
from ray.rllib.utils import metrics as names

from distributed.collector import Collected

RETURN_NAMES = (names.EPISODE_RETURN_MEAN, names.EPISODE_RETURN_MIN, names.EPISODE_RETURN_MAX)
LENGTH_NAMES = (names.EPISODE_LEN_MEAN, names.EPISODE_LEN_MIN, names.EPISODE_LEN_MAX)
NUM_ENV_RESTARTS_LIFETIME = "num_env_restarts_lifetime"
NUM_EPISODES_DROPPED_LIFETIME = "num_episodes_dropped_lifetime"
# Metrics where no episode has ended, where no environment has failed, and of an iteration without
# a step.
NO_RETURNS = dict.fromkeys((*RETURN_NAMES, *LENGTH_NAMES), math.nan)
NO_FAILURES = {NUM_ENV_RESTARTS_LIFETIME: 0, NUM_EPISODES_DROPPED_LIFETIME: 0}
NO_EPISODES = {
    **NO_RETURNS,
    **NO_FAILURES,
    names.NUM_ENV_STEPS_SAMPLED: 0,
    names.NUM_ENV_STEPS_SAMPLED_LIFETIME: 0,
    names.NUM_EPISODES: 0,
    names.NUM_EPISODES_LIFETIME: 0,
}
REDUCTIONS = ("mean", "min", "max")


class SampleMetrics:
    """Sums up what a runner collected until RLlib asks for it.

    The names and `Stats` objects are those of RLlib's `SingleAgentEnvRunner`, so that its
    schedulers and callbacks find them.

    Args:
        stats_classes: of a `MetricsLogger`, by the name of their reduction.
        window: the last episodes that count.
    """

    def __init__(self, stats_classes: Mapping[str, Callable[..., Any]], window: int) -> None:
        self._stats_classes = stats_classes
        self._window = window
        self._steps = 0
        self._env_restarts = 0
        self._episodes_dropped = 0
        self._returns: list[float] = []
        self._lengths: list[int] = []

    def add(self, collected: Collected) -> None:
        """Counts the steps and episodes of one sample."""
        self._steps += len(collected.transitions)
        self._returns += collected.episode_returns
        self._lengths += collected.episode_lengths

    def add_failures(self, env_restarts: int = 0, episodes_dropped: int = 0) -> None:
        """Counts environments that were made anew, and episodes that were broken off."""
        self._env_restarts += env_restarts
        self._episodes_dropped += episodes_dropped

    def take(self) -> dict[str, Any]:
        """`Stats` of all since the last call, as `MetricsLogger.reduce` returns them."""
        steps, episodes = self._steps, len(self._returns)
        taken = {
            names.NUM_ENV_STEPS_SAMPLED: self._stats("sum", steps),
            names.NUM_ENV_STEPS_SAMPLED_LIFETIME: self._stats(
                "lifetime_sum", steps, with_throughput=True
            ),
            names.NUM_AGENT_STEPS_SAMPLED_LIFETIME: {
                DEFAULT_AGENT_ID: self._stats("lifetime_sum", steps)
            },
            names.NUM_EPISODES: self._stats("sum", episodes),
            names.NUM_EPISODES_LIFETIME: self._stats("lifetime_sum", episodes),
        }
        for name, count in (
            (NUM_ENV_RESTARTS_LIFETIME, self._env_restarts),
            (NUM_EPISODES_DROPPED_LIFETIME, self._episodes_dropped),
        ):
            if count:
                taken[name] = self._stats("lifetime_sum", count)
        if episodes:
            for values, metric_names in (
                (self._returns, RETURN_NAMES),
                (self._lengths, LENGTH_NAMES),
            ):
                for name, kind in zip(metric_names, REDUCTIONS, strict=True):
                    # One by one: a mean of each answer's mean would not be that of the episodes.
                    taken[name] = self._stats(kind, *values, window=self._window)
        self._steps, self._returns, self._lengths = 0, [], []
        self._env_restarts = self._episodes_dropped = 0
        return taken

    def _stats(self, kind: str, *values: float, **options: Any) -> Any:
        stats = self._stats_classes[kind](**options)
        for value in values:
            stats.push(value)
        return stats
