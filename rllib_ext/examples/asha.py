"""ASHA: random search that stops the worse trials early.

A trial is compared with the others at `grace_period` real steps and at each further multiple of
`reduction_factor`; only the best go on. The metric is the return of the evaluation; the return of
the training episodes, `env_runners/episode_return_mean`, would do as well. Both are in every
result from the first one on, as NaN until an episode has ended.

How to run this script
----------------------
`python -m rllib_ext.examples.asha --samples 8 --steps 4000`

Trials of one CPU each, as many at once as there are CPUs. For trials with actors of their own see
`trial_config` in `trials.py`.

Results to expect
-----------------
The last lines give the best trial's learning rates and log_ratio_weight, its return and its folder.
"""

from __future__ import annotations

from typing import Annotated

import typer
from ray import tune
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from rllib_ext import MnM
from rllib_ext.examples.trials import (
    EVALUATION_RETURN,
    STORAGE,
    Assignments,
    Env,
    Interval,
    Steps,
    Storage,
    print_best,
    run_config,
    run_script,
    trial_config,
)


def main(
    env: Env = "InvertedPendulum-v5",
    steps: Steps = 4000,
    interval: Interval = 250,
    samples: Annotated[int, typer.Option(help="Trials.")] = 8,
    grace_period: Annotated[int, typer.Option(help="Real steps that no trial is stopped in.")] = (
        1000
    ),
    concurrent: Annotated[
        int | None, typer.Option(help="Trials at once at the most; default: one per CPU.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn, and of every trial.")] = 0,
    set_: Assignments = None,
    storage: Storage = STORAGE,
) -> tune.ResultGrid:
    """Draws settings, trains with each and stops the worse ones early."""
    config = (
        trial_config(env, interval, set_)
        .training(
            algo="mnm",
            actor_lr=tune.loguniform(3e-5, 3e-3),
            critic_lr=tune.loguniform(3e-5, 3e-3),
            log_ratio_weight=tune.uniform(0.0, 1.0),
        )
        .debugging(seed=seed)
    )
    tuner = tune.Tuner(
        MnM,
        param_space=config,
        tune_config=tune.TuneConfig(
            metric=EVALUATION_RETURN,
            mode="max",
            num_samples=samples,
            # Tune ignores its own max_concurrent_trials beside a generator that is given.
            search_alg=BasicVariantGenerator(max_concurrent=concurrent or 0, random_state=seed),
            scheduler=ASHAScheduler(
                time_attr=NUM_ENV_STEPS_SAMPLED_LIFETIME,
                max_t=steps,
                grace_period=grace_period,
                reduction_factor=2,
            ),
        ),
        run_config=run_config("asha", storage, steps),
    )
    results = tuner.fit()
    print_best(results, "actor_lr", "critic_lr", "log_ratio_weight")
    return results


if __name__ == "__main__":
    run_script(main)
