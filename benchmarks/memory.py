"""Memory: how much the driver grows over a long run."""

from __future__ import annotations

import psutil

from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, summarise

ENV = "InvertedPendulum-v5"


def rows(quick: bool) -> list[Row]:
    """Growth of the driver's resident memory, with the learner and a collector as actors."""
    begin, end = (1_000, 2_000) if quick else (5_000, 55_000)
    actors = Actors() if quick else Actors(collectors=1, learner=True)
    driver = psutil.Process()
    with local_ray(num_cpus=1 if quick else 2):
        live = Live(
            live_config(
                ENV,
                actors,
                iteration=250,
                algo="sac",
                hidden_sizes=(16, 16),
                batch_size=16,
                updates_to_data_ratio=0.05,
                num_random_steps=100,
            )
        )
        live.train_steps(begin)
        before = driver.memory_info().rss
        window = live.train_steps(end - begin)
        after = driver.memory_info().rss
        live.stop()
    name = f"memory: steps {begin:,} to {end:,}, sac, {ENV}, hardly any updates, {actors}"
    return [
        summarise(f"{name}, growth of the driver", "MB (less is better)", [(after - before) / 1e6]),
        summarise(name, "real steps/s", [window.env_steps / window.seconds]),
    ]
