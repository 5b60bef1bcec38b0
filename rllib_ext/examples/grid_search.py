"""Grid search over algorithms and seeds: which of the four is best on a task?

Each trial takes the presets of its own algorithm. Any setting may be a `tune.grid_search`, or a
distribution such as `tune.loguniform(1e-4, 1e-3)` with `num_samples`.

How to run this script
----------------------
`python -m rllib_ext.examples.grid_search --steps 2000`

Twelve trials of one CPU each, as many at once as there are CPUs. For trials with actors of their
own see `trial_config` in `trials.py`.

Results to expect
-----------------
The last lines have each algorithm's mean return over its seeds, best first, then the best trial's
algorithm and seed, its return and its folder. Of three seeds a mean is a hint, and the best trial
says less: it is the luckiest.
"""

from __future__ import annotations

from typing import Annotated

import typer
from ray import tune

from mnm.settings import ALGORITHMS
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
    print_means,
    run_config,
    run_script,
    trial_config,
)


def main(
    env: Env = "InvertedPendulum-v5",
    steps: Steps = 2000,
    interval: Interval = 250,
    algorithms: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(ALGORITHMS),
    seeds: Annotated[int, typer.Option(help="Seeds of each algorithm.")] = 3,
    set_: Assignments = None,
    storage: Storage = STORAGE,
) -> tune.ResultGrid:
    """Trains every algorithm with every seed."""
    config = (
        trial_config(env, interval, set_)
        .training(algo=tune.grid_search(algorithms.split(",")))
        .debugging(seed=tune.grid_search(list(range(seeds))))
    )
    tuner = tune.Tuner(
        MnM,
        param_space=config,
        tune_config=tune.TuneConfig(metric=EVALUATION_RETURN, mode="max"),
        run_config=run_config("grid_search", storage, steps),
    )
    results = tuner.fit()
    print_means(results, "algo")
    print_best(results, "algo", "seed")
    return results


if __name__ == "__main__":
    run_script(main)
