"""What turns and iterations report: into RLlib's results, and to Prometheus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Real
from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from distributed.coordinator import Coordinator
from distributed.learner_core import TurnReport
from distributed.telemetry_export import Telemetry
from mnm import Settings
from mnm.statistics import statistics
from rllib_ext.sample_metrics import NO_EPISODES, NO_FAILURES, NO_RETURNS


class Reporting:
    """Logs counters and scalars under RLlib's names and ours, and exports them.

    Args:
        settings: of the algorithm.
        run: name of the run, for Prometheus.
        max_weight_lag: real steps.
    """

    def __init__(self, settings: Settings, run: str, max_weight_lag: int) -> None:
        self.settings = settings
        # All names from the start: Tune's progress.csv takes its columns from the first result.
        self.statistics = dict.fromkeys(statistics(settings), math.nan)
        self.env_steps = 0  # that are logged
        self.telemetry = Telemetry(run)
        self.telemetry.note({"weight_lag_limit": max_weight_lag})

    def log(self, report: TurnReport, coordinator: Coordinator, metrics: MetricsLogger) -> None:
        """Logs a turn's report."""
        log, settings = metrics.log_value, self.settings
        self.statistics.update(report.statistics)
        ingested = report.env_steps - self.env_steps
        self.env_steps = report.env_steps
        log(
            (LEARNER_RESULTS, ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME),
            ingested,
            reduce="lifetime_sum",
        )
        for name, value in self.statistics.items():
            log((LEARNER_RESULTS, DEFAULT_MODULE_ID, name), value, reduce="item")
        for part, seconds in report.seconds.items():  # of all turns of the iteration
            log((LEARNER_RESULTS, DEFAULT_MODULE_ID, f"seconds_{part}"), seconds, reduce="sum")
        learned_steps = report.env_steps - settings.num_random_steps
        totals = {
            "num_updates_lifetime": report.updates,
            "num_synthetic_transitions_lifetime": report.synthetic_transitions,
            "num_offline_transitions": report.offline_transitions,
            "num_offline_updates": report.offline_updates,
            "updates_to_data_ratio": report.updates / learned_steps if learned_steps > 0 else 0.0,
            "weights_version": report.version,
            **asdict(coordinator.counts),
            **coordinator.actor_counts(),
        }
        for name, value in totals.items():
            log(name, value, reduce="item")
        self.telemetry.note_turn(report)
        self.telemetry.note({**totals, **self.statistics})

    def export(self, coordinator: Coordinator) -> None:
        """Sets the metrics again, with or without a new report."""
        steps = self.env_steps
        length = self.settings.rollout_length(steps) if self.settings.has_model else math.nan
        self.telemetry.note({"rollout_length": length, **coordinator.queue_lengths()})
        self.telemetry.set(coordinator.handed_over)

    def complete(self, result: dict[str, Any], evaluates: bool) -> None:
        """Gives an iteration's result all its names, and exports its returns and bound.

        Tune's progress.csv takes its columns from the first result, and its schedulers refuse one
        without their metric.
        """
        _complete(result, NO_EPISODES)
        if evaluates:
            _complete(result.setdefault(EVALUATION_RESULTS, {}), {**NO_RETURNS, **NO_FAILURES})
        evaluation = result.get(EVALUATION_RESULTS, {}).get(ENV_RUNNER_RESULTS, {})
        for part, figures in (
            ("training", result[ENV_RUNNER_RESULTS]),
            ("evaluation", evaluation),
            ("bound", result.get("bound", {})),
        ):
            # Without an evaluation in this iteration the last one's stay.
            self.telemetry.note(
                {
                    f"{part}/{name}": float(value)
                    for name, value in figures.items()
                    if isinstance(value, Real) and not math.isnan(value)
                }
            )


def _complete(result: dict[str, Any], missing: Mapping[str, float]) -> None:
    """Adds to the runners' metrics of `result` those of `missing` that it lacks."""
    result[ENV_RUNNER_RESULTS] = {**missing, **result.get(ENV_RUNNER_RESULTS, {})}
