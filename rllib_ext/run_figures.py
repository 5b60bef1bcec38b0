"""The few figures of a run that a person follows, from the results of its iterations."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

from rllib_ext.health import LEARNER, number_at
from rllib_ext.run_folder import RETURN_COLUMN, STEPS_COLUMN, TRAINING_RETURN_COLUMN

RATE_RESULTS = 5  # over which the time left is reckoned
PATHS = {
    "iteration": "training_iteration",
    "env_steps": STEPS_COLUMN,
    "return": RETURN_COLUMN,
    "training_return": TRAINING_RETURN_COLUMN,
    "episodes": "env_runners/num_episodes_lifetime",
    "updates": "num_updates_lifetime",
    "offline_updates": "num_offline_updates",
    "synthetic_transitions": "num_synthetic_transitions_lifetime",
    "updates_to_data_ratio": "updates_to_data_ratio",
    "weight_lag": "weight_lag",
    "model_holdout_rmse": LEARNER + "model_holdout_rmse",
    "model_holdout_nll": LEARNER + "model_holdout_nll",
    "classifier_accuracy": LEARNER + "classifier_accuracy",
    "classifier_logit_real": LEARNER + "classifier_logit_real",
    "classifier_logit_imagined": LEARNER + "classifier_logit_imagined",
    "bound": "bound/estimate",
    "log_return": "bound/log_return",
    "collectors": "num_healthy_collectors",
    "rollout_workers": "num_healthy_rollout_workers",
    "worker_failures": "worker_failures",
    "worker_restarts": "worker_restarts",
    "seconds": "time_total_s",
}

COUNTS = {  # figures that are whole numbers, or NaN
    "iteration",
    "env_steps",
    "episodes",
    "updates",
    "offline_updates",
    "synthetic_transitions",
    "weight_lag",
    "collectors",
    "rollout_workers",
    "worker_failures",
    "worker_restarts",
}


class _Point(NamedTuple):
    seconds: float
    steps: float
    updates: float
    waited_s: float


class RunFigures:
    """Reads each result, and what follows from two of them.

    Args:
        total_steps: real steps of the whole run.
    """

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._points: deque[_Point] = deque(maxlen=RATE_RESULTS + 1)

    def take(self, result: dict[str, Any]) -> dict[str, float]:
        """The figures after this result, by the names of `PATHS` and these; NaN: not known.

        env_steps_per_s, updates_per_s: in this iteration, by the trial's clock, evaluation
        included; learner_idle_share: of the iteration, in which the learner had nothing to do, its
        evaluation left out; seconds_left: at the rate of the last iterations.
        """
        figures = {name: number_at(result, path) for name, path in PATHS.items()}
        updates = [figures["updates"], figures["offline_updates"]]
        point = _Point(
            figures["seconds"],
            figures["env_steps"],
            sum(count for count in updates if math.isfinite(count)),
            number_at(result, "waited_for_steps_s") + number_at(result, "waited_for_lag_s"),
        )
        points = self._points
        # After a failure the run goes on from a checkpoint, with fewer updates than before.
        if points and (point.seconds <= points[-1].seconds or point.updates < points[-1].updates):
            points.clear()
        elif not points and figures["iteration"] == 1:
            points.append(_Point(0.0, 0.0, 0.0, 0.0))
        points.append(point)
        before = points[max(len(points) - 2, 0)]
        seconds = point.seconds - before.seconds
        seconds = seconds if seconds > 0 else math.nan
        first = points[0]
        pace = (point.seconds - first.seconds) / max(point.steps - first.steps, 1e-9)
        # Random steps, before the first update, are far faster than those that come.
        known = point.steps > first.steps and point.updates > 0
        return {
            **figures,
            "env_steps_per_s": (point.steps - before.steps) / seconds,
            "updates_per_s": (point.updates - before.updates) / seconds,
            "learner_idle_share": (point.waited_s - before.waited_s) / seconds,
            "seconds_left": max(self.total_steps - point.steps, 0) * pace if known else math.nan,
        }
