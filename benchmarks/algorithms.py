"""Real steps a second of the four algorithms, model fits and rollouts included, against our sac."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.live import Live, TimedMnM, Window
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, alternate, summarise
from mnm import ALGORITHMS
from rllib_ext import MnMConfig

ENV = "HalfCheetah-v5"
UPDATES_TO_DATA_RATIO = 10
LEAST_SHARE = 1.0  # per cent of the learner's time; smaller parts get no row


@dataclass(frozen=True)
class Scale:
    """How long the runs are.

    Attributes:
        random_steps: before the first model fit and the first update.
        block: real steps a repeat; one model fit and one batch of rollouts fall into each.
        iteration: real steps a call of `train()`; half a block off the fits or so, so that no
            rollout worker is at work when a block ends.
        repeats: blocks.
        settings: that keep a fit's and a rollout's work in proportion to the block.
    """

    random_steps: int
    block: int
    iteration: int
    repeats: int
    settings: dict[str, Any]


FULL = Scale(1000, 250, 50, 8, {})
QUICK = Scale(
    100,
    20,
    10,
    2,
    {"dynamics_fit_interval": 20, "rollout_interval": 20, "dynamics_max_fit_steps": 40},
)


def live(algo: str, scale: Scale) -> Live:
    """The algorithm, one collector and one rollout worker as actors, the learner as another."""
    return Live(
        MnMConfig(TimedMnM)
        .environment(ENV)
        .env_runners(num_env_runners=1)
        .learners(num_learners=1)
        .training(
            algo=algo,
            num_rollout_workers=int(algo != "sac"),
            updates_to_data_ratio=UPDATES_TO_DATA_RATIO,
            num_random_steps=scale.random_steps,
            **scale.settings,
        )
        .reporting(min_sample_timesteps_per_iteration=scale.iteration)
        .debugging(seed=0)
    )


def steps_per_second(windows: list[Window]) -> list[float]:
    """Of each window."""
    return [window.env_steps / window.seconds for window in windows]


def part_rows(name: str, windows: list[Window]) -> list[Row]:
    """The share of wall time of each part of the learner's work, in per cent."""
    shares = {
        part: [100 * window.parts[part] / window.seconds for window in windows]
        for part in windows[0].parts
    }
    return [
        summarise(f"{name}, share of wall time: {part}", "%", figures)
        for part, figures in shares.items()
        if median(figures) >= LEAST_SHARE
    ]


def rows(quick: bool) -> list[Row]:
    """Per algorithm: real steps a second against sac's, the learner's idle share, its parts."""
    scale = QUICK if quick else FULL
    with local_ray(num_cpus=3 * len(ALGORITHMS)):
        algorithms = {algo: live(algo, scale) for algo in ALGORITHMS}
        first = {
            algo: algorithm.train_steps(scale.random_steps + 2 * scale.iteration)
            for algo, algorithm in algorithms.items()
        }
        windows = alternate(
            {
                algo: partial(algorithm.train_steps, scale.block)
                for algo, algorithm in algorithms.items()
            },
            scale.repeats,
        )
        for algorithm in algorithms.values():
            algorithm.stop()
    since = scale.random_steps + 2 * scale.iteration
    until = since + scale.repeats * scale.block
    results: list[Row] = []
    for algo in ALGORITHMS:
        name = f"algorithms: {algo}, {ENV}, {UPDATES_TO_DATA_RATIO} updates per step"
        own = windows[algo]
        results += [
            summarise(
                f"{name}, steps {since:,} to {until:,}",
                "real steps/s",
                steps_per_second(own),
                steps_per_second(windows["sac"]) if algo != "sac" else (),
                "our sac",
            ),
            summarise(
                f"{name}, learner without work from the driver",
                "% (less is better)",
                [100 * window.idle_seconds / window.seconds for window in own],
            ),
            summarise(
                f"{name}, wall time outside the learner's own work",
                "% (less is better)",
                [100 * (1 - sum(window.parts.values()) / window.seconds) for window in own],
            ),
        ]
        if algo != "sac":
            seconds = first[algo].parts["fit"]
            results.append(summarise(f"{name}, first model fit", "s (less is better)", [seconds]))
        results += part_rows(name, own)
    return results
