"""Real steps a second of the four algorithms, model fits and rollouts included, against our sac."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks.live import Actors, Live, Window, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, alternate, summarise
from mnm import ALGORITHMS

ENV = "HalfCheetah-v5"
UPDATES_TO_DATA_RATIO = 10
LEAST_SHARE = 1.0  # per cent of the learner's time; smaller parts get no row


@dataclass(frozen=True)
class Scale:
    """How long the runs are and what is an actor.

    Attributes:
        actors: see `actors_of`.
        random_steps: before the first model fit and the first update.
        block: real steps a repeat; one model fit and one batch of rollouts fall into each.
        iteration: real steps a call of `train()`. The blocks begin one of them after a fit, so that
            no rollout worker is at work when a block ends.
        repeats: blocks.
        settings: for `live_config`; keep the work of a fit in proportion to the block.
    """

    actors: Actors
    random_steps: int
    block: int
    iteration: int
    repeats: int
    settings: dict[str, Any]


FULL = Scale(Actors(collectors=1, rollout_workers=1, learner=True), 1000, 250, 50, 8, {})
QUICK = Scale(
    Actors(),
    50,
    10,
    5,
    3,
    {
        "fragment": 5,
        "dynamics_fit_interval": 10,
        "rollout_interval": 10,
        "dynamics_max_fit_steps": 20,
    },
)


def actors_of(algo: str, scale: Scale) -> Actors:
    """The scale's; sac has nothing to imagine with."""
    return replace(scale.actors, rollout_workers=0) if algo == "sac" else scale.actors


def live(algo: str, scale: Scale) -> Live:
    """One of the four algorithms."""
    return Live(
        live_config(
            ENV,
            actors_of(algo, scale),
            scale.iteration,
            algo=algo,
            updates_to_data_ratio=UPDATES_TO_DATA_RATIO,
            num_random_steps=scale.random_steps,
            **scale.settings,
        )
    )


def steps_per_second(windows: list[Window]) -> list[float]:
    """Of each window."""
    return [window.env_steps / window.seconds for window in windows]


def whole_rate(windows: list[Window], before: float = 0.0) -> float:
    """Real steps a second of all windows together, `before` seconds added."""
    seconds = before + sum(window.seconds for window in windows)
    return sum(window.env_steps for window in windows) / seconds


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
    with local_ray(num_cpus=1 if quick else 3 * len(ALGORITHMS)):
        algorithms = {algo: live(algo, scale) for algo in ALGORITHMS}
        first = {
            algo: algorithm.train_steps(scale.random_steps + scale.iteration)
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
    since = scale.random_steps + scale.iteration
    until = since + scale.repeats * scale.block
    results: list[Row] = []
    for algo in ALGORITHMS:
        name = f"algorithms: {algo}, {ENV}, {UPDATES_TO_DATA_RATIO} updates per step"
        own = windows[algo]
        results += [
            summarise(
                f"{name}, steps {since:,} to {until:,}, {actors_of(algo, scale)}",
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
        if algo != "sac" and not quick:  # a quick run's few steps would be mostly that fit
            results.append(
                summarise(
                    f"{name}, all of these steps with the first and longest model fit",
                    "real steps/s",
                    [whole_rate(own, first[algo].parts["fit"])],
                    [whole_rate(windows["sac"])],
                    "our sac",
                )
            )
        results += part_rows(name, own)
    return results
