"""Joint updates on transitions that were made elsewhere, before or without real steps."""

from __future__ import annotations

from collections.abc import Callable

from mnm.agent import Agent
from mnm.replay import HOLDOUT_PERIOD
from mnm.transitions import DataRefused


def train_offline(
    agent: Agent, updates: int, should_stop: Callable[[], bool] | None = None
) -> dict[str, float]:
    """Makes joint updates on what the replay holds, beside the updates-to-data ratio.

    The model is fitted first. Fits and rollouts then come as often as between real steps: each
    `updates_to_data_ratio` updates (1 if that is 0) stand for one of them.

    Args:
        agent: with transitions in its replay.
        updates: joint updates to make.
        should_stop: asked before each fit or rollout; on True no more is done.

    Returns:
        The statistics of the last fit and of the updates since the last fit or rollout.

    Raises:
        DataRefused: there are too few transitions to hold one out.
    """
    if updates and not agent.has_holdout:
        raise DataRefused(
            f"{len(agent.replay)} transitions are too few for updates before the first real step: "
            f"give at least {HOLDOUT_PERIOD}, or set offline_updates to 0."
        )
    settings = agent.settings
    ratio = settings.updates_to_data_ratio or 1.0
    fit_interval = max(1, round(ratio * settings.dynamics_fit_interval))
    rollout_interval = max(1, round(ratio * settings.rollout_interval))
    statistics: dict[str, float] = {}
    end = agent.offline_updates + updates
    while agent.offline_updates < end:
        if should_stop is not None and should_stop():
            return statistics
        done = agent.offline_updates
        if done % fit_interval == 0:
            statistics.update(agent.fit())
        if agent.can_fit and done % rollout_interval == 0:
            agent.ingest_synthetic(
                agent.imagine(agent.draw_rollout_request(settings.rollout_interval))
            )
        to_next = [interval - done % interval for interval in (fit_interval, rollout_interval)]
        count = min(end - done, *to_next)
        statistics.update(agent.joint_update.run(count))
        agent.offline_updates += count
    return {**statistics, **agent.judge_classifier()}
