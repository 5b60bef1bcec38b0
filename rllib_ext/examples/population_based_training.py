"""Population Based Training: the worse trials go on from the better ones' checkpoints.

Every `perturbation_interval` real steps a trial of the lower half takes over the checkpoint of one
of the upper half, replay and all, with settings that are mutated. Whatever is no size of a network
can be mutated: learning rates are those of the new settings from the next update on, and updates
are made at the new ratio from there on. A mutated size of a network is refused.

How to run this script
----------------------
`python -m rllib_ext.examples.population_based_training --population 4 --steps 4000`

Trials of one CPU each. With `synch=True` they wait for one another before each exchange, so that
the outcome does not depend on how many run at once. For trials with actors of their own see
`trial_config` in `trials.py`.

Results to expect
-----------------
The last lines give the best trial's last settings, its return and its folder; `pbt_global.txt`
beside it tells who took over from whom.
"""

from __future__ import annotations

from typing import Annotated

import typer
from ray import tune
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.schedulers import PopulationBasedTraining

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

MUTATIONS = {
    "actor_lr": tune.loguniform(3e-5, 3e-3),
    "critic_lr": tune.loguniform(3e-5, 3e-3),
    "log_ratio_weight": [0.03, 0.1, 0.3, 1.0],
}


def main(
    env: Env = "InvertedPendulum-v5",
    steps: Steps = 4000,
    interval: Interval = 250,
    population: Annotated[int, typer.Option(help="Trials.")] = 4,
    perturbation_interval: Annotated[
        int, typer.Option(help="Real steps between two exchanges.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of every trial.")] = 0,
    set_: Assignments = None,
    storage: Storage = STORAGE,
) -> tune.ResultGrid:
    """Trains a population."""
    config = trial_config(env, interval, set_).training(algo="mnm").debugging(seed=seed)
    tuner = tune.Tuner(
        MnM,
        # What is mutated is not set here: each trial draws its first value from MUTATIONS.
        param_space=config,
        tune_config=tune.TuneConfig(
            metric=EVALUATION_RETURN,
            mode="max",
            num_samples=population,
            scheduler=PopulationBasedTraining(
                time_attr=NUM_ENV_STEPS_SAMPLED_LIFETIME,
                perturbation_interval=perturbation_interval,
                hyperparam_mutations=MUTATIONS,
                quantile_fraction=0.5,
                synch=True,
            ),
        ),
        run_config=run_config(
            "population_based_training",
            storage,
            steps,
            # More than two: a checkpoint must last until all have cloned it.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4, checkpoint_at_end=True),
        ),
    )
    results = tuner.fit()
    print_best(results, *MUTATIONS)
    return results


if __name__ == "__main__":
    run_script(main)
