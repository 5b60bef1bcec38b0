"""Small runs' folders, as `mnm train` leaves them, without training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distributed.storage import Location
from rllib_ext.run_folder import ITERATION_COLUMN, RETURN_COLUMN, STEPS_COLUMN, write_summary
from rllib_ext.run_plan import RunPlan
from tests.rllib_ext.small_checkpoints import write_checkpoint
from tests.rllib_ext.small_configs import LINE

PLAN: dict[str, Any] = {
    "env": LINE,
    "algo": "mnm",
    "settings": {},
    "steps": 40,
    "num_env_runners": 1,
    "num_rollout_workers": 0,
    "evaluation_interval": 10,
}


def write_run(
    folder: Path,
    returns: Sequence[float] = (1.0, 2.0, 3.0, 4.0),
    finished: bool = True,
    checkpoint: bool = False,
    **plan: Any,
) -> Path:
    """A run with these evaluation returns, `evaluation_interval` steps apart.

    Algorithms with a classifier have a bound that is 1 nat below the log return, from the second
    evaluation on. The learner spent 3 of 4 seconds on updates and waited for the other one.
    """
    whole = RunPlan(**{**PLAN, **plan})
    whole.save(Location.of(folder))
    interval, count = whole.evaluation_interval, len(returns)
    columns: dict[str, Any] = {
        STEPS_COLUMN: [float(interval * (i + 1)) for i in range(count)],
        ITERATION_COLUMN: range(1, count + 1),
        RETURN_COLUMN: returns,
        "time_total_s": [4.0 * (i + 1) for i in range(count)],
        "learner_idle_s": [1.0 * (i + 1) for i in range(count)],
        "learners/default_policy/seconds_update": [3.0] * count,
    }
    if whole.algo in ("mnm", "mnm-approx"):
        for name, nats in (("estimate", 4.0), ("log_return", 5.0)):
            for end, offset in (("", 0.0), ("_low", -0.5), ("_high", 0.5)):
                values = [math.nan] + [nats + offset] * (count - 1)
                columns[f"bound/{name}{end}"] = values[:count]
    if count:
        pd.DataFrame(columns).to_csv(folder / "progress.csv", index=False)
    if finished:
        summary = {"env_steps": interval * count, "evaluation_return_mean": returns[-1] + 0.5}
        write_summary(Location.of(folder), summary)
    if checkpoint:
        task, _, env = whole.env.partition(":")
        assert task == "tests.line_tasks"
        write_checkpoint(folder / "checkpoint", env, bias=None, algo=whole.algo)
    return folder
