"""Algorithms that are built once, train for a window at a time, and rest in between."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distributed.learner_core import TurnReport
from rllib_ext import MnM, MnMConfig


@dataclass(frozen=True)
class Window:
    """What one window of training brought.

    Attributes:
        seconds: wall time.
        env_steps: real steps that the learner took in.
        updates: joint updates made.
        idle_seconds: between the end of one of the learner's turns and the start of the next.
        parts: seconds the learner spent on ingesting, fitting, imagining, updating, publishing.
    """

    seconds: float
    env_steps: int
    updates: int
    idle_seconds: float
    parts: dict[str, float]


class TimedMnM(MnM):
    """Adds up what the learner says each of its turns took; a result only holds the last one's."""

    def setup(self, config: MnMConfig) -> None:
        """As MnM's."""
        self.learner_seconds: Counter[str] = Counter()
        super().setup(config)

    def _log_report(self, report: TurnReport) -> None:
        self.learner_seconds.update(report.seconds)
        super()._log_report(report)


@dataclass(frozen=True)
class Actors:
    """Which parts of an algorithm are actors of their own; the others sit in the driver.

    Attributes:
        collectors: 0: the driver collects.
        rollout_workers: 0: the learner imagines; always so for sac.
        learner: whether it is one.
    """

    collectors: int = 0
    rollout_workers: int = 0
    learner: bool = False

    def __str__(self) -> str:
        """For a row's name."""
        if not self.learner:
            return "all in one process"
        counts = ((self.collectors, "collector"), (self.rollout_workers, "rollout worker"))
        parts = [f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count]
        *most, last = ["learner", *parts]
        return f"{', '.join(most)} and {last} as actors" if most else "learner as an actor"


def live_config(
    env: str, actors: Actors, iteration: int, fragment: int = 10, **settings: Any
) -> MnMConfig:
    """A config of `TimedMnM`.

    Args:
        env: Gymnasium id or registered name.
        actors: which there are.
        iteration: real steps a call of `train()`.
        fragment: real steps a collector makes on one request.
        settings: of `MnMConfig.training`.
    """
    return (
        MnMConfig(TimedMnM)
        .environment(env)
        .env_runners(num_env_runners=actors.collectors, rollout_fragment_length=fragment)
        .learners(num_learners=int(actors.learner))
        .training(**settings, num_rollout_workers=actors.rollout_workers)
        .reporting(min_sample_timesteps_per_iteration=iteration)
        .debugging(seed=0)
    )


class Live:
    """An algorithm under `MnM.train()` that does nothing between two windows.

    Args:
        config: made with `TimedMnM`; its iterations are the least a window can be.
    """

    def __init__(self, config: MnMConfig) -> None:
        self.algorithm: TimedMnM = config.build_algo()
        self._rests_since = time.perf_counter()

    def train_steps(self, env_steps: int) -> Window:
        """Trains for that many real steps, in whole iterations."""
        wanted = self._report.env_steps + env_steps
        return self._window(lambda: self._report.env_steps >= wanted)

    def train_seconds(self, seconds: float) -> Window:
        """Trains for about that long, in whole iterations."""
        end = time.perf_counter() + seconds
        return self._window(lambda: time.perf_counter() >= end)

    def stop(self) -> None:
        """Ends the algorithm's actors."""
        self.algorithm.stop()

    @property
    def _report(self) -> TurnReport:
        report = self.algorithm.coordinator.latest
        assert report is not None
        return report

    def _window(self, done: Callable[[], bool]) -> Window:
        algorithm, coordinator = self.algorithm, self.algorithm.coordinator
        start = time.perf_counter()
        rest = start - self._rests_since
        before, idle = self._report, coordinator.counts.learner_idle_s
        parts = Counter(algorithm.learner_seconds)
        while not done():
            algorithm.train()
        algorithm._rest_learner()
        self._rests_since = time.perf_counter()
        return Window(
            seconds=self._rests_since - start,
            env_steps=self._report.env_steps - before.env_steps,
            updates=self._report.updates - before.updates,
            # The coordinator counts the rest before this window as idle.
            idle_seconds=max(0.0, coordinator.counts.learner_idle_s - idle - rest),
            parts={
                name: seconds - parts[name] for name, seconds in algorithm.learner_seconds.items()
            },
        )
