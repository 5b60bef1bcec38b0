"""Tuner.restore: an experiment that was interrupted goes on from its last checkpoints.

A trial that had not ended goes on with its replay, optimizers, counters and random states. Trials
that failed go on as well (`resume_errored=True`); those that had ended are not run again.

How to run this script
----------------------
`python -m rllib_ext.examples.resume_tuner`

Interrupt it with Ctrl-C, or kill it, and run the same command again: it finds the experiment in
`--storage` and goes on. The trials' settings are those of the first run.

Tune writes down which checkpoints it goes on from once every trial has made `num_to_keep` new ones,
or every ten seconds, so that is what a killed run may lose. The number of actors of a trial may be
changed by handing `Tuner.restore` another `param_space`.

Results to expect
-----------------
In `progress.csv` of each trial `training_iteration` and `num_env_steps_sampled_lifetime` go on
where the last checkpoint stood. The last lines give the best trial's seed, return and folder.
"""

from __future__ import annotations

from typing import Annotated

import typer
from ray import tune

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

NAME = "resume_tuner"


def main(
    env: Env = "InvertedPendulum-v5",
    steps: Steps = 4000,
    interval: Interval = 250,
    seeds: Annotated[int, typer.Option(help="Trials, each with a seed of its own.")] = 2,
    set_: Assignments = None,
    storage: Storage = STORAGE,
) -> tune.ResultGrid:
    """Starts the experiment, or goes on with the one in `storage`."""
    experiment = storage.resolve() / NAME
    if tune.Tuner.can_restore(str(experiment)):
        tuner = tune.Tuner.restore(str(experiment), trainable=MnM, resume_errored=True)
    else:
        config = (
            trial_config(env, interval, set_)
            .training(algo="mbpo")
            .debugging(seed=tune.grid_search(list(range(seeds))))
        )
        tuner = tune.Tuner(
            MnM,
            param_space=config,
            tune_config=tune.TuneConfig(metric=EVALUATION_RETURN, mode="max"),
            run_config=run_config(
                NAME,
                storage,
                steps,
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=1, num_to_keep=2, checkpoint_at_end=True
                ),
            ),
        )
    results = tuner.fit()
    print_best(results, "seed")
    return results


if __name__ == "__main__":
    run_script(main)
