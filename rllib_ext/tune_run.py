"""One run on Ray Tune: from its plan to its folder with curves, summary and checkpoint."""

from __future__ import annotations

import logging
import math
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from distributed.stop_request import is_stop_asked
from distributed.storage import Location
from distributed.vector_env import EnvironmentFailed
from mnm import DataRefused
from rllib_ext.algorithm import MnM
from rllib_ext.config import MnMConfig
from rllib_ext.errors import CheckpointFailed, UserError, is_of_setup, root_cause
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.ray_session import first_line
from rllib_ext.run_folder import (
    ITERATION_COLUMN,
    STEPS_COLUMN,
    draw_bound,
    draw_learning_curve,
    evaluated_returns,
    join_curves,
    keep_checkpoint,
    remove_if_nothing_came,
    task_of,
    write_summary,
)
from rllib_ext.run_plan import FINAL_EPISODES, RunPlan

EVALUATIONS_TO_STOP = 2  # in a row, at the stop return or above
CHECKPOINTS = 20  # of a whole run, at least one an iteration in a short one
CHECKPOINTS_KEPT = 2
SYNC_PERIOD_S = 20  # between two looks of Tune whether there are new results to store
MOST_FAILURES = 3  # of a run, each resumed from the last checkpoint
NOT_MENDED = (DataRefused, EnvironmentFailed)  # by trying again
SHOWN_IN_ONE_SENTENCE = (ValueError, EnvironmentFailed, CheckpointFailed)
NOT_SHARED = "Unable to set up cluster storage"  # what Tune raises where it misses its marker file
TRIAL_FOLDER = "."  # a run is one trial: its files lie in the run's folder itself
FINAL_SEED = 1_000_000  # of the final evaluation's environment, apart from those of training


class ReturnStopper(tune.Stopper):
    """Stops at a number of real steps, or once two evaluations in a row meet a return.

    Args:
        plan: of the run.
        evaluated: return of each iteration so far that had an evaluation, where the run goes on.
    """

    def __init__(self, plan: RunPlan, evaluated: Mapping[int, float] | None = None) -> None:
        self.plan = plan
        self._evaluated = dict(evaluated or {})

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop after this result.

        Iterations without an evaluation, as the last one before the user stopped the run, are
        passed over; after a failure iterations come again, and those count as made last.
        """
        iteration = result[ITERATION_COLUMN]
        achieved = result["evaluation"]["env_runners"]["episode_return_mean"]
        if not math.isnan(achieved):
            self._evaluated[iteration] = achieved
        if is_stop_asked():
            return True
        done = (
            result[STEPS_COLUMN] >= self.plan.steps
            and result["num_offline_updates"] >= self.plan.offline_updates
        )
        return self._is_met(iteration) or done

    def _is_met(self, iteration: int) -> bool:
        """Whether the latest evaluations up to an iteration met the return."""
        if self.plan.stop_return is None:
            return False
        evaluated = sorted(item for item in self._evaluated.items() if item[0] <= iteration)
        latest = [achieved for _, achieved in evaluated[-EVALUATIONS_TO_STOP:]]
        return len(latest) == EVALUATIONS_TO_STOP and min(latest) >= self.plan.stop_return

    def stop_all(self) -> bool:
        """Never stops other trials."""
        return False


class Recovery(tune.Callback):
    """Says when a run goes on, and from where.

    Data that are refused, and an environment that always fails, are not tried over and over: they
    end the run at its next failure, whatever that is.
    """

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """After a failure that Tune makes good; some come again, as the environment's own."""
        file = trial.pickled_error_file
        error = pickle.loads(Path(file).read_bytes()) if file else RuntimeError("its actor died")
        cause = root_cause(error)
        not_made = is_of_setup(error) and isinstance(cause, ValueError)  # settings that do not do
        if not_made or isinstance(cause, NOT_MENDED) or NOT_SHARED in str(cause):
            trial.max_failures = 0
            goes_on = (
                ", which another try seldom mends: it is tried once more, and its next failure, "
                "whatever it is, ends it."
            )
        else:
            failures = trial.run_metadata.num_failures
            place = "its last checkpoint" if trial.has_checkpoint() else "where it began"
            goes_on = f" and goes on from {place} ({failures} of {MOST_FAILURES} failures)."
        print(f"The run failed ({first_line(cause)}){goes_on}", file=sys.stderr, flush=True)


def run(
    plan: RunPlan,
    config: MnMConfig,
    folder: Location,
    callbacks: list[tune.Callback],
    resume_from: Location | None = None,
) -> dict[str, Any] | None:
    """Runs one trial in `folder` and returns its summary; None where it was asked to stop.

    Args:
        plan: of the run.
        config: of the plan.
        folder: of the run.
        callbacks: of Tune.
        resume_from: checkpoint to go on from; None: a new run.

    Raises:
        UserError: the environment or the learner refused the data, and the last checkpoint stays;
            or the run was stopped before it had one.
    """
    started = time.monotonic()
    # What a trial raises is reported below, in one sentence or whole; Tune's log would repeat it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # see `rllib_ext.interruption`
    settings = config.settings()
    # Offline updates come in iterations of as many as between real steps.
    ratio = settings.updates_to_data_ratio or 1.0
    iterations = int((plan.steps + plan.offline_updates / ratio) // plan.evaluation_interval)
    if resume_from is not None:
        config.callbacks(on_algorithm_init=partial(restore, resume_from))
    tuner = tune.Tuner(
        MnM,
        param_space=config,
        tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: TRIAL_FOLDER),
        run_config=tune.RunConfig(
            name=folder.last,
            storage_path=folder.parent.full_name,
            sync_config=tune.SyncConfig(sync_period=SYNC_PERIOD_S),
            stop=ReturnStopper(plan, evaluated_returns(folder)),
            callbacks=[*callbacks, Recovery()],
            failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=CHECKPOINTS_KEPT,
                checkpoint_frequency=max(1, iterations // CHECKPOINTS),
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    )
    result = tuner.fit()[0]
    checkpoint = resume_from
    if result.checkpoint is not None:
        saved = Location(folder.filesystem, result.checkpoint.path, result.checkpoint.path)
        checkpoint = keep_checkpoint(folder, saved)
    join_curves(folder)
    if result.error is not None:
        cause = root_cause(result.error)
        if checkpoint is None:
            remove_if_nothing_came(folder)
        if isinstance(cause, SHOWN_IN_ONE_SENTENCE):
            raise UserError(first_line(cause)) from result.error
        if NOT_SHARED in str(cause):
            raise UserError(
                f"The run's folder {folder} is not on a disk that all nodes share: give --output "
                "one that is, or a URI like s3://bucket/run."
            ) from result.error
        raise result.error
    draw_learning_curve(folder, plan.title)
    draw_bound(folder, plan.title)
    if is_stop_asked():
        return None
    assert checkpoint is not None  # Tune writes one at the end
    evaluation = evaluate_policy(checkpoint, FINAL_EPISODES, FINAL_SEED + plan.seed)
    metrics = result.metrics
    summary = {
        "env": plan.env,
        "algo": plan.algo,
        "seed": plan.seed,
        "env_steps": int(metrics[STEPS_COLUMN]),
        "updates": int(metrics["num_updates_lifetime"]),
        "synthetic_transitions": int(metrics["num_synthetic_transitions_lifetime"]),
        "offline_transitions": int(metrics["num_offline_transitions"]),
        "offline_updates": int(metrics["num_offline_updates"]),
        "wall_seconds": round(time.monotonic() - started, 1),
        "evaluation_return_mean": evaluation.return_mean,
        "evaluation_return_std": evaluation.return_std,
        "evaluation_episodes": evaluation.episodes,
        "updates_to_data_ratio": metrics["updates_to_data_ratio"],
        "weight_lag_max": int(metrics["weight_lag_max"]),
    }
    bound = metrics.get("bound", {})
    summary.update({f"bound/{name}": value for name, value in bound.items()})
    write_summary(folder, summary)
    return summary


def restore(checkpoint: Location, algorithm: MnM, **info: Any) -> None:
    """Has a new algorithm go on from a checkpoint; for RLlib's callback `on_algorithm_init`."""
    # RLlib restores the iteration, and Tune the time, but Tune knows nothing of this checkpoint.
    time_total_s = task_of(checkpoint)["time_total_s"]
    if checkpoint.is_local:
        algorithm.restore_from_path(checkpoint.path)
    else:  # RLlib's learner on another node knows of no bucket
        with tempfile.TemporaryDirectory() as folder:
            here = Location.of(Path(folder) / "checkpoint")
            checkpoint.copy(here)
            algorithm.restore_from_path(here.path)
    algorithm._time_total = time_total_s
    # A checkpoint holds the config, and made from it an algorithm would look for this one first.
    config = algorithm.config.copy(copy_frozen=False).callbacks(on_algorithm_init=None)
    config.freeze()
    algorithm.config = config
