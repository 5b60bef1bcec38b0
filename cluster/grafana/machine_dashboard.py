"""The dashboard *machine*: how fast does it go, what waits for what, and what broke?"""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.grafana.names import MACHINE_UID
from cluster.grafana.panels import Query, build_dashboard, panel, rate, series

NUMBER = "short"
SHARE = "percentunit"
PER_SECOND = "suffix:/s"


def machine_dashboard(datasource: str | None = None) -> Dashboard:
    """Builds it.

    Args:
        datasource: uid of the Prometheus to begin with; None: Grafana's first.
    """
    return build_dashboard(
        MACHINE_UID,
        "MnM machine",
        "Rates, lags, queues, idle times, restarts and replay of the runs chosen above.",
        {
            "Rates": _rates(),
            "Totals": _totals(),
            "What waits for what?": _flow(),
            "Weights and replay": _weights(),
            "Workers": _workers(),
            "GPU of the learner": _gpu(),
        },
        datasource,
    )


def _rates() -> Iterator[timeseries.Panel]:
    yield panel(
        "Real steps",
        "A second. Zero for long: the environment is stuck, or the learner holds the collectors "
        "back by the updates-to-data ratio (see its time).",
        PER_SECOND,
        [Query(rate("mnm_env_steps"), "{{run}}")],
        low=0.0,
    )
    yield panel(
        "Imagined transitions",
        "A second, as given to the learner.",
        PER_SECOND,
        [Query(rate("mnm_synthetic_transitions"), "{{run}}")],
        low=0.0,
    )
    yield panel(
        "Updates",
        "Joint updates a second; on transitions from files apart.",
        PER_SECOND,
        [
            Query(rate("mnm_updates"), "{{run}}"),
            Query(rate("mnm_offline_updates"), "{{run}} on files"),
        ],
        low=0.0,
    )


def _totals() -> Iterator[timeseries.Panel]:
    yield panel(
        "Done in all",
        "Since the run began; a checkpoint keeps them.",
        NUMBER,
        [
            Query(series("mnm_env_steps"), "{{run}} real steps"),
            Query(series("mnm_updates"), "{{run}} updates"),
            Query(series("mnm_synthetic_transitions"), "{{run}} imagined transitions"),
            Query(series("mnm_offline_transitions"), "{{run}} transitions from files"),
            Query(series("mnm_offline_updates"), "{{run}} updates on files"),
        ],
        low=0.0,
    )
    yield panel(
        "Episodes",
        "Real episodes that have ended, and those that a failure or a restore broke off.",
        NUMBER,
        [
            Query(series("mnm_episodes"), "{{run}} ended"),
            Query(series("mnm_episodes_dropped"), "{{run}} broken off"),
        ],
        low=0.0,
    )
    yield panel(
        "Updates to data ratio",
        "Updates over real steps after the initial random ones. It must come to the setting and "
        "stay there.",
        NUMBER,
        [Query(series("mnm_updates_to_data_ratio"), "{{run}}")],
        low=0.0,
    )


def _flow() -> Iterator[timeseries.Panel]:
    yield panel(
        "Time of the learner",
        "Shares of what it does, over its last minute. Idle: collectors or rollout workers are too "
        "few, or evaluations and checkpoints take long; update: the learner is the bottleneck, "
        "more workers do not help.",
        SHARE,
        [Query(series("mnm_learner_time_ratio", by="part"), "{{run}} {{part}}")],
        low=0.0,
        stacked=True,
    )
    yield panel(
        "Learner idle",
        "Share of its last minute in which it did nothing; evaluations and checkpoints are in. "
        "Above 50 % for ten minutes: an alert.",
        SHARE,
        [Query(series("mnm_learner_idle_ratio"), "{{run}}")],
        low=0.0,
        high=1.0,
        limits=[0.5],
    )
    yield panel(
        "Queues",
        "Batches that waited when the learner came free (collected, imagined), and requests not "
        "answered yet. Always full: the learner is behind; always empty: it waits.",
        NUMBER,
        [Query(series("mnm_queue_length", by="queue"), "{{run}} {{queue}}")],
        low=0.0,
    )


def _weights() -> Iterator[timeseries.Panel]:
    yield panel(
        "Weight lag",
        "Largest age, in real steps, of weights in use, and the limit that it does not exceed.",
        NUMBER,
        [
            Query(series("mnm_weight_lag_steps"), "{{run}} lag"),
            Query(series("mnm_weight_lag_limit_steps"), "{{run}} limit"),
        ],
        low=0.0,
    )
    yield panel(
        "Weights published",
        "Seconds since they last were. It grows: the learner hangs or makes a long fit.",
        "s",
        [Query(series("mnm_weights_age_seconds"), "{{run}}")],
        low=0.0,
    )
    yield panel(
        "Version of the weights",
        "One more every turn of the learner; back a little after a restore.",
        NUMBER,
        [Query(series("mnm_weights_version"), "{{run}}")],
    )
    yield panel(
        "Replay",
        "Transitions that the learner holds, real and imagined.",
        NUMBER,
        [Query(series("mnm_replay_transitions", by="replay"), "{{run}} {{replay}}")],
        low=0.0,
        width=24,
    )


def _workers() -> Iterator[timeseries.Panel]:
    yield panel(
        "Workers",
        "Actors at work (healthy), and asked for but not running yet (pending). Pending for long: "
        "the cluster has no room.",
        NUMBER,
        [Query(series("mnm_workers", by="role, state"), "{{run}} {{role}} {{state}}")],
        low=0.0,
    )
    yield panel(
        "Transitions of each worker",
        "A second. One well below the others: its node is slow.",
        PER_SECOND,
        [Query(rate("mnm_worker_transitions", by="role, worker"), "{{run}} {{role}} {{worker}}")],
        low=0.0,
    )
    yield panel(
        "Failures",
        "Of workers and environments, and what came back, in all. One now and then is made good by "
        "itself; several in ten minutes: an alert, see the log of the node.",
        NUMBER,
        [
            Query(series("mnm_worker_restarts"), "{{run}} workers back"),
            Query(series("mnm_worker_failures"), "{{run}} collectors failed"),
            Query(series("mnm_env_restarts"), "{{run}} environments made anew"),
            Query(series("mnm_steps_lost"), "{{run}} real steps lost"),
        ],
        low=0.0,
    )


def _gpu() -> Iterator[timeseries.Panel]:
    yield panel(
        "Use",
        "Share of the time that the GPU was at work, by whomever; 0 without a GPU. Low while the "
        "learner is not idle: larger batches cost nothing.",
        SHARE,
        [Query(series("mnm_gpu_utilization_ratio"), "{{run}}")],
        low=0.0,
        high=1.0,
        width=12,
    )
    yield panel(
        "Memory",
        "That the learner's process has taken; 0 without a GPU.",
        "bytes",
        [Query(series("mnm_gpu_memory_bytes"), "{{run}}")],
        low=0.0,
        width=12,
    )
