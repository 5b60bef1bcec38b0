"""A small experiment, and tables as if it had been run."""

from __future__ import annotations

import pandas as pd

from benchmarks.learning import tables
from benchmarks.learning.experiments import Experiment
from benchmarks.learning.runs import runs_of

SMALL = Experiment("Does it?", ("Pendulum-v1",), ("mnm", "sac"), (0, 1, 2), 300, 100, 1.0, 300)


def table(returns: dict[tuple[str, int], list[float]], interval: int = 100) -> pd.DataFrame:
    """Evaluations of `SMALL`, registered as "small": returns by algorithm and seed."""
    rows = [
        {
            "experiment": "small",
            "env": "Pendulum-v1",
            "algo": algo,
            "variant": "tuned",
            "seed": seed,
            "env_steps": interval * (place + 1),
            "return_mean": value,
            "wall_seconds": 10.0 * (place + 1),
        }
        for (algo, seed), values in returns.items()
        for place, value in enumerate(values)
    ]
    digests = {run.plan.algo: run.digest for run in runs_of("small")}
    content = pd.DataFrame(rows).reindex(columns=tables.COLUMNS)
    return content.assign(settings=content["algo"].map(digests))
