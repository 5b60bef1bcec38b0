"""The one table of metrics that a run exports for Prometheus.

What holds for all of them, the names there, and how to query them: docs/metrics.md, which
`distributed.telemetry_page` writes from this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Tags = Mapping[str, str]

COMMON_LABELS = ("run", "role", "worker")
LEARNER: Tags = {"role": "learner"}
COLLECTOR: Tags = {"role": "collector"}
ROLLOUT_WORKER: Tags = {"role": "rollout_worker"}
EVALUATION: Tags = {"role": "evaluation"}
DRIVER: Tags = {"role": "driver"}
TIME_PARTS = ("ingest", "fit", "imagine", "update", "publish", "idle")


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as given to `ray.util.metrics`.
        unit: of its value; "" for a pure number.
        meaning: one phrase.
        series: the tags, without `run` and `worker`, of every series it has, by the name of the
            figure that it shows.
        kind: of Prometheus's kinds.
        per_worker: whether every worker has a series of its own, its number in `worker`; else
            `worker` is "" as the figure is of all of them.
    """

    name: str
    unit: str
    meaning: str
    series: Mapping[str, Tags] = field(default_factory=dict)
    kind: Literal["gauge", "counter"] = "gauge"
    per_worker: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """All of its labels; the common ones first."""
        own = {key for tags in self.series.values() for key in tags} - set(COMMON_LABELS)
        return (*COMMON_LABELS, *sorted(own))

    def values_of(self, label: str) -> list[str]:
        """The values that `label` takes in its series."""
        return sorted({tags[label] for tags in self.series.values() if label in tags})


def prometheus_name(metric: Metric | str) -> str:
    """The name under which Prometheus has a metric of the table, or one of that name."""
    if isinstance(metric, str):
        metric = BY_NAME[metric]
    return f"ray_{metric.name}" + ("_total" if metric.kind == "counter" else "")


def _totals() -> Iterable[Metric]:
    """What the whole run has done; a checkpoint keeps all of it."""
    for name, unit, meaning, figure, tags in (
        ("env_steps", "steps", "real steps that the learner has", "env_steps", LEARNER),
        ("updates", "updates", "joint updates", "num_updates_lifetime", LEARNER),
        (
            "synthetic_transitions",
            "transitions",
            "imagined transitions that the learner was given",
            "num_synthetic_transitions_lifetime",
            LEARNER,
        ),
        (
            "offline_transitions",
            "transitions",
            "transitions taken from files",
            "num_offline_transitions",
            LEARNER,
        ),
        (
            "offline_updates",
            "updates",
            "joint updates made beside the ratio, on transitions from files",
            "num_offline_updates",
            LEARNER,
        ),
        (
            "episodes",
            "episodes",
            "real episodes that have ended",
            "training/num_episodes_lifetime",
            COLLECTOR,
        ),
    ):
        yield Metric(f"mnm_{name}", unit, meaning, {figure: tags})


def _flow() -> Iterable[Metric]:
    yield Metric(
        "mnm_updates_to_data_ratio",
        "updates per step",
        "updates over real steps after the initial random ones; 0 until then",
        {"updates_to_data_ratio": LEARNER},
    )
    yield Metric(
        "mnm_weights_version",
        "",
        "version of the weights last published, one more every turn of the learner",
        {"weights_version": LEARNER},
    )
    yield Metric(
        "mnm_weights_age_seconds",
        "seconds",
        "since weights were last published, when this was set",
        {"weights_age_seconds": LEARNER},
    )
    yield Metric(
        "mnm_weight_lag_steps",
        "steps",
        "largest age, in real steps, of any weights used in the last turn",
        {"weight_lag": DRIVER},
    )
    yield Metric(
        "mnm_weight_lag_limit_steps",
        "steps",
        "the setting max_weight_lag, which the lag does not exceed",
        {"weight_lag_limit": DRIVER},
    )
    yield Metric(
        "mnm_queue_length",
        "",
        "collected, imagined: batches that waited when the learner last came free; "
        "collect_requests, rollout_requests: requests that are not answered yet",
        {
            "queue_collected": {**LEARNER, "queue": "collected"},
            "queue_imagined": {**LEARNER, "queue": "imagined"},
            "queue_collect_requests": {**COLLECTOR, "queue": "collect_requests"},
            "queue_rollout_requests": {**ROLLOUT_WORKER, "queue": "rollout_requests"},
        },
    )
    yield Metric(
        "mnm_learner_idle_ratio",
        "share",
        "of the learner's last minute or more, in which it did nothing; evaluations and "
        "checkpoints are in",
        {"time_idle": LEARNER},
    )
    yield Metric(
        "mnm_learner_time_ratio",
        "share",
        "of the learner's last minute or more, by what it does; they add up to 1",
        {f"time_{part}": {**LEARNER, "part": part} for part in TIME_PARTS},
    )
    yield Metric(
        "mnm_replay_transitions",
        "transitions",
        "in the learner's replay",
        {
            "replay_real": {**LEARNER, "replay": "real"},
            "replay_synthetic": {**LEARNER, "replay": "synthetic"},
        },
    )
    yield Metric(
        "mnm_rollout_length",
        "steps",
        "of imagined rollouts, by its schedule",
        {"rollout_length": LEARNER},
    )


def _learning() -> Iterable[Metric]:
    for name, unit, meaning in (
        ("return_mean", "return", "mean return of the last episodes"),
        ("return_min", "return", "smallest of the same"),
        ("return_max", "return", "largest of the same"),
        ("len_mean", "steps", "mean length of the same"),
    ):
        yield Metric(
            f"mnm_episode_{name.replace('len', 'length')}",
            unit,
            f"{meaning}, in training (collector) and of the last evaluation",
            {
                f"training/episode_{name}": COLLECTOR,
                f"evaluation/episode_{name}": EVALUATION,
            },
        )
    for name, meaning in (
        ("estimate", "estimate of the bound by imagined rollouts, at the last evaluation"),
        ("log_return", "log of the expected transformed return of real episodes, beside it"),
        ("gap", "log return minus bound"),
        (
            "model_optimism",
            "log return that imagined trajectories promise minus that of real episodes",
        ),
    ):
        for end, text in (("", ""), ("_low", ": lower end"), ("_high", ": upper end")):
            interval = f"{text} of the 95 % interval" if text else ""
            yield Metric(
                f"mnm_bound_{name}{end}",
                "nats",
                meaning + interval,
                {f"bound/{name}{end}": EVALUATION},
            )
    for figure, unit, meaning in (
        (
            "model_holdout_nll",
            "nats",
            "of s' - s on held-out transitions, per dimension, after the last fit",
        ),
        (
            "model_holdout_rmse",
            "",
            "error of s' - s on held-out transitions, in units of each dimension's scale",
        ),
        ("model_fit_steps", "steps", "gradient steps of the last maximum-likelihood fit"),
        ("model_objective", "", "what the model maximises in `mnm`'s joint updates"),
        ("classifier_loss", "nats", "binary cross-entropy on training batches"),
        (
            "classifier_accuracy",
            "share",
            "on held-out transitions: 0.5 is chance, 1 tells every imagined one from the real",
        ),
        ("classifier_logit_real", "nats", "mean logit of held-out real transitions"),
        (
            "classifier_logit_imagined",
            "nats",
            "mean logit of next states imagined at the same states and actions",
        ),
        (
            "classifier_logit_pool",
            "nats",
            "mean logit of next states imagined at the rollouts' states and actions",
        ),
        ("critic_loss", "", "squared error of the critics, summed over both"),
        ("q_value", "", "mean action value of the critics"),
        ("q_target", "", "mean target of the critics"),
        ("policy_entropy", "nats", "with actions scaled to (-1, 1)"),
        ("alpha", "", "weight of the policy's entropy"),
    ):
        name = "temperature" if figure == "alpha" else figure
        yield Metric(f"mnm_{name}", unit, meaning, {figure: LEARNER})
    yield Metric(
        "mnm_gradient_norm",
        "",
        "2-norm of the gradient, before any clipping, in the last turn's updates",
        {
            f"{network}_gradient_norm": {**LEARNER, "network": network}
            for network in ("critics", "policy", "classifier", "model", "stopping")
        },
    )
    yield Metric(
        "mnm_non_finite_statistics",
        "",
        "losses, values and gradient norms of the learner that came out infinite or as no number, "
        "one for each and turn",
        {"non_finite_statistics": LEARNER},
    )


def _machine() -> Iterable[Metric]:
    for name, unit, meaning, figure, tags in (
        (
            "worker_restarts",
            "",
            "collectors and rollout workers that came back into service",
            "worker_restarts",
            DRIVER,
        ),
        ("worker_failures", "", "times that a collector failed or died", "worker_failures", DRIVER),
        (
            "steps_lost",
            "steps",
            "real steps that were lost with their collector",
            "steps_lost",
            DRIVER,
        ),
        (
            "env_restarts",
            "",
            "environments that raised and were made anew",
            "training/num_env_restarts_lifetime",
            COLLECTOR,
        ),
        (
            "episodes_dropped",
            "episodes",
            "episodes broken off by a failure or a restore",
            "training/num_episodes_dropped_lifetime",
            COLLECTOR,
        ),
    ):
        yield Metric(f"mnm_{name}", unit, meaning, {figure: tags})
    yield Metric(
        "mnm_workers",
        "",
        "remote actors at work (healthy), and asked for but not yet running (pending)",
        {
            f"num_{state}_{role}s": {"role": role, "state": state}
            for role in ("collector", "rollout_worker")
            for state in ("healthy", "pending")
        },
    )
    yield Metric(
        "mnm_worker_transitions",
        "transitions",
        "that this collector or rollout worker has handed over since the driver's process began; "
        "collector 0 steps in that process itself",
        {"collector": COLLECTOR, "rollout_worker": ROLLOUT_WORKER},
        per_worker=True,
    )
    yield Metric(
        "mnm_gpu_memory_bytes",
        "bytes",
        "of the GPU that the learner's process has taken; 0 without a GPU",
        {"gpu_memory_bytes": LEARNER},
    )
    yield Metric(
        "mnm_gpu_utilization_ratio",
        "share",
        "of the time that the learner's GPU was at work, whosoever's; 0 without a GPU",
        {"gpu_utilization": LEARNER},
    )


SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Totals": tuple(_totals()),
    "Flow": tuple(_flow()),
    "Learning": tuple(_learning()),
    "Machine": tuple(_machine()),
}
METRICS: tuple[Metric, ...] = tuple(metric for metrics in SECTIONS.values() for metric in metrics)
BY_NAME = {metric.name: metric for metric in METRICS}
