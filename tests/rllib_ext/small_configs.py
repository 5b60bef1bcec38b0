"""Configs with tiny networks and short intervals on the tests' own tasks."""

from __future__ import annotations

from typing import Any

from rllib_ext import MnMConfig
from tests.mnm.small_cases import SMALL

LINE = "tests.line_tasks:Line-v0"
MOST = "max_num_env_runners"
TINY: dict[str, Any] = {**SMALL, "bound_horizon": 5, "bound_rollouts": 8}


def plain() -> MnMConfig:
    """The defaults."""
    return MnMConfig().environment(LINE)


def tiny_config(
    algo: str = "mnm",
    env: Any = LINE,
    *,
    num_env_runners: int = 0,
    num_learners: int = 0,
    num_rollout_workers: int = 0,
    seed: int | None = 0,
    env_config: dict[str, Any] | None = None,
    **settings: Any,
) -> MnMConfig:
    """A config whose iterations take forty real steps; without actors unless asked for."""
    return (
        MnMConfig()
        .environment(env, env_config=env_config or {})
        .env_runners(num_env_runners=num_env_runners)
        .learners(num_learners=num_learners)
        .training(**{**TINY, "algo": algo, "num_rollout_workers": num_rollout_workers, **settings})
        .reporting(min_sample_timesteps_per_iteration=40)
        .debugging(seed=seed)
    )


def evaluating(config: MnMConfig) -> MnMConfig:
    """`config` with an evaluation of three episodes after every iteration."""
    return config.evaluation(evaluation_interval=1, evaluation_duration=3)
