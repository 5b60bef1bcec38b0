"""Back-pressure: memory, object store and requests while the learner is much too slow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import psutil
import ray

from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, summarise
from distributed.coordinator import Coordinator
from rllib_ext.learner import MnMLearner

ENV = "InvertedPendulum-v5"
TURN_S = 2.0
SAMPLE_S = 0.2
ACTORS = Actors(collectors=2, learner=True)


class SlowLearner(MnMLearner):
    """Takes `TURN_S` longer a turn."""

    def turn(self, *arguments: Any, **keywords: Any) -> Any:
        """As MnMLearner's."""
        time.sleep(TURN_S)
        return super().turn(*arguments, **keywords)


@dataclass(frozen=True)
class Load:
    """What is held at one moment, or the most that was.

    Attributes:
        driver: its resident memory, in bytes.
        learner: the learner's.
        store: bytes in use in the object store.
        requests: that collectors have not answered.
        batches: that collectors have handed over and the learner has not finished with.
    """

    driver: int
    learner: int
    store: int
    requests: int
    batches: int


class LoadMeter:
    """Measures the load of a live algorithm."""

    def __init__(self, live: Live) -> None:
        algorithm = live.algorithm
        (learner,) = algorithm.learner_group.foreach_learner(lambda learner: os.getpid())
        self._learner = psutil.Process(learner.get())
        self._driver = psutil.Process()
        self._coordinator: Coordinator = algorithm.coordinator

    def now(self) -> Load:
        """The load at this moment."""
        flow, name = self._coordinator, "object_store_memory"
        return Load(
            self._driver.memory_info().rss,
            self._learner.memory_info().rss,
            int(ray.cluster_resources()[name] - ray.available_resources().get(name, 0.0)),
            flow.collectors.num_open,
            len(flow.collectors.waiting) + len(flow._learning.real),
        )

    def most_during(self, work: Callable[[], Any]) -> Load:
        """The most of everything while `work` runs, by samples taken beside it."""
        loads, over = [self.now()], threading.Event()

        def sample() -> None:
            while not over.wait(SAMPLE_S):
                loads.append(self.now())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            work()
        finally:
            over.set()
            thread.join()
        return Load(*(max(values) for values in zip(*map(astuple, loads), strict=True)))


def rows(quick: bool) -> list[Row]:
    """Growth after a warm-up, and the most that was under way."""
    warm_up, seconds = (10.0, 30.0) if quick else (60.0, 600.0)
    config = live_config(
        ENV,
        ACTORS,
        iteration=1,
        algo="sac",
        hidden_sizes=(16, 16),
        batch_size=16,
        updates_to_data_ratio=0.05,
        num_random_steps=100,
        replay_capacity=1_000,
    ).learners(learner_class=SlowLearner)
    with local_ray(num_cpus=4):
        live = Live(config)
        live.train_seconds(warm_up)
        meter = LoadMeter(live)
        before = meter.now()
        most = meter.most_during(lambda: live.train_seconds(seconds))
        live.stop()
    name = f"back_pressure: {seconds / 60:g} min, {TURN_S:g} s added a turn, sac, {ENV}, {ACTORS}"
    growth = {
        "growth of the driver": most.driver - before.driver,
        "growth of the learner": most.learner - before.learner,
        "growth of the object store": most.store - before.store,
    }
    return [
        *(
            summarise(f"{name}, {what}", "MB (less is better)", [size / 1e6])
            for what, size in growth.items()
        ),
        summarise(f"{name}, open requests", "most at once", [most.requests]),
        summarise(f"{name}, batches on their way to the learner", "most at once", [most.batches]),
    ]
