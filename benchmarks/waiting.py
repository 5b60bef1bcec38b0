"""Scale without cores: collectors whose environment only waits, as a robot's does."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
from ray.tune.registry import register_env

from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, alternate, summarise

ENV = "Waiting"
STEP_S = 0.02
COLLECTORS_AND_FRAGMENTS = ((2, 10), (8, 10), (32, 10), (32, 50))  # fragment: steps a request
COLLECTOR_BYTES = 500e6


class Waiting(gym.Env):
    """Takes `STEP_S` a step and no processor time."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A random observation."""
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Waits, then a random observation."""
        time.sleep(STEP_S)
        return self._observation(), 0.0, False, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)


def make_waiting(context: Any) -> gym.Env:
    """For RLlib's registry."""
    return Waiting()


def live(collectors: int, fragment: int) -> Live:
    """sac with tiny networks and one update in a hundred steps: the learner is no limit."""
    return Live(
        live_config(
            ENV,
            Actors(collectors=collectors, learner=True),
            iteration=fragment * collectors,
            fragment=fragment,
            algo="sac",
            hidden_sizes=(16, 16),
            batch_size=16,
            updates_to_data_ratio=0.01,
            num_random_steps=0,
        )
    )


def steps_per_second(algorithm: Live, seconds: float) -> float:
    """Of a window after one iteration, in which batches finished during the rest go in."""
    algorithm.train_steps(1)
    window = algorithm.train_seconds(seconds)
    return window.env_steps / window.seconds


def rows(quick: bool) -> list[Row]:
    """Real steps a second of N collectors against N times one collector's."""
    seconds, repeats = (1.0, 3) if quick else (5.0, 5)
    results = []
    for count, fragment in COLLECTORS_AND_FRAGMENTS[: 1 if quick else None]:
        free = psutil.virtual_memory().available
        if free < (count + 4) * COLLECTOR_BYTES:
            print(f"waiting: {count} collectors are left out, {free / 1e9:.0f} GB are free.")
            continue
        with local_ray(num_cpus=count + 3):
            register_env(ENV, make_waiting)  # in this Ray
            one, many = live(1, fragment), live(count, fragment)
            figures = alternate(
                {
                    "one": partial(steps_per_second, one, seconds),
                    "many": partial(steps_per_second, many, seconds),
                },
                repeats,
            )
            one.stop()
            many.stop()
        results.append(
            summarise(
                f"waiting: {count} collectors, {1000 * STEP_S:.0f} ms a step, {fragment} steps a "
                "request",
                "real steps/s",
                figures["many"],
                [count * rate for rate in figures["one"]],
                f"{count} times one collector",
                limit=count / STEP_S,
            )
        )
    return results
