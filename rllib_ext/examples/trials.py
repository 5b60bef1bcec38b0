"""What the examples share: the config of a trial, where its results go, the report on the best."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from ray import tune
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_ext import MnMConfig
from rllib_ext.errors import UserError
from rllib_ext.given_settings import parse_assignments

EVALUATION_RETURN = "evaluation/env_runners/episode_return_mean"
EVALUATION_EPISODES = 5
# For every algorithm; whatever is not set takes the preset of the trial's own `algo`.
SETTINGS: dict[str, Any] = {
    "num_random_steps": 500,
    "updates_to_data_ratio": 5,
    "hidden_sizes": (128, 128),
    "ensemble_size": 5,
    "num_elites": 3,
    "dynamics_hidden_sizes": (128, 128, 128),
    "dynamics_weight_decay": (0.0, 0.0, 0.0, 0.0),
    "rollouts_per_step": 40,
}

Env = Annotated[str, typer.Option(help="Gymnasium id, or module:Id for one of your own.")]
Steps = Annotated[int, typer.Option(help="Real environment steps of a trial at the most.")]
Interval = Annotated[int, typer.Option(help="Real steps between two results of a trial.")]
Storage = Annotated[Path, typer.Option(help="Folder that the experiment's folder is put in.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of every trial; repeatable."),
]

STORAGE = Path("runs/tune")


def trial_config(env: str, interval: int, assignments: list[str] | None) -> MnMConfig:
    """A trial in one process, which takes one CPU.

    Tune runs as many trials at once as there are CPUs. For trials with actors of their own add
    `.env_runners(num_env_runners=2)`, `.learners(num_learners=1)` and
    `.training(num_rollout_workers=1)`; each actor takes one CPU more.
    """
    return (
        MnMConfig()
        .environment(env)
        .training(**{**SETTINGS, **parse_assignments(assignments or [])})
        .evaluation(evaluation_interval=1, evaluation_duration=EVALUATION_EPISODES)
        .reporting(min_sample_timesteps_per_iteration=interval)
    )


def run_config(name: str, storage: Path, steps: int, **options: Any) -> tune.RunConfig:
    """Where results go and when a trial ends; `options` are those of `tune.RunConfig`."""
    return tune.RunConfig(
        name=name,
        storage_path=str(storage.resolve()),
        stop={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps},
        **options,
    )


def print_best(results: tune.ResultGrid, *searched: str) -> None:
    """Prints what the best trial had for the settings that were searched, and its return."""
    best = results.get_best_result()
    print("best trial:", ", ".join(f"{name}={best.config[name]}" for name in searched))
    print(f"return: {best.metrics_dataframe[EVALUATION_RETURN].iloc[-1]:.1f}")
    print(f"folder: {best.path}")


def print_means(results: tune.ResultGrid, searched: str) -> None:
    """Prints the mean over the trials' last returns for each value of a setting, the best first."""
    returns: dict[Any, list[float]] = {}
    for result in results:
        if result.metrics_dataframe is not None:  # else it failed before its first result
            last = result.metrics_dataframe[EVALUATION_RETURN].iloc[-1]
            returns.setdefault(result.config[searched], []).append(last)
    for value, own in sorted(returns.items(), key=lambda item: -fmean(item[1])):
        print(f"{searched}={value}: mean return {fmean(own):.1f} of {len(own)} trials")


def run_script(main: Callable[..., object]) -> None:
    """Runs an example's command line; bad input ends in one sentence and exit code 2."""
    try:
        typer.run(main)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
