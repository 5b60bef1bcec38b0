"""Weights: from the learner's parameters to all collectors acting with them, by their number."""

from __future__ import annotations

from functools import partial
from typing import Any

import ray
from torch import nn

from benchmarks.learner_device import ready_agent
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, compare, milliseconds, summarise
from mnm import Settings
from mnm.policy import NumpyPolicy, numpy_weights

READERS = (1, 2, 4)


class Reader:
    """Loads weights as a collector does."""

    def load(self, reference: list[ray.ObjectRef]) -> None:
        """From the object store."""
        self.policy = NumpyPolicy(ray.get(reference[0]))

    def load_copy(self, weights: dict[str, Any]) -> None:
        """From the call's own arguments."""
        self.policy = NumpyPolicy(weights)


def publish(policy: nn.Module, readers: list[Any], times: int) -> int:
    """One object in the store, its reference to every reader; until all have loaded it."""
    for _ in range(times):
        reference = ray.put(numpy_weights(policy))
        ray.get([reader.load.remote([reference]) for reader in readers])
    return times


def send_copies(policy: nn.Module, readers: list[Any], times: int) -> int:
    """A copy to every reader in its call; until all have loaded it."""
    for _ in range(times):
        weights = numpy_weights(policy)
        ray.get([reader.load_copy.remote(weights) for reader in readers])
    return times


def rows(quick: bool) -> list[Row]:
    """Latency for 1, 2 and 4 readers against a copy for each, and the bytes of one publish."""
    times, repeats = (10, 3) if quick else (50, 5)
    counts = READERS[:2] if quick else READERS
    policy = ready_agent(Settings.preset("sac", num_random_steps=0), "cpu").networks.policy
    results = []
    with local_ray(num_cpus=max(counts)):
        readers = [ray.remote(num_cpus=1)(Reader).remote() for _ in range(max(counts))]
        for count in counts:
            results.append(
                compare(
                    f"weights: publish until loaded by {count} reader{'s' * (count > 1)}",
                    "ms (less is better)",
                    partial(publish, policy, readers[:count], times),
                    partial(send_copies, policy, readers[:count], times),
                    "a copy in each call",
                    repeats=repeats,
                    figure=milliseconds,
                )
            )
    size = sum(array.nbytes for array in numpy_weights(policy).values())
    name = "weights: put into the store, whatever the number of readers"
    return [*results, summarise(name, "kB (less is better)", [size / 1e3])]
