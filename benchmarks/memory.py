"""Memory: how much the driver grows over a long run."""

from __future__ import annotations

import psutil

from benchmarks.live import Live, TimedMnM
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, summarise
from rllib_ext import MnMConfig

ENV = "InvertedPendulum-v5"


def rows(quick: bool) -> list[Row]:
    """Growth of the driver's resident memory; the learner and one collector are actors."""
    begin, end = (500, 2_500) if quick else (5_000, 55_000)
    driver = psutil.Process()
    with local_ray(num_cpus=3):
        live = Live(
            MnMConfig(TimedMnM)
            .environment(ENV)
            .env_runners(num_env_runners=1)
            .learners(num_learners=1)
            .training(
                algo="sac",
                hidden_sizes=(16, 16),
                batch_size=16,
                updates_to_data_ratio=0.05,
                num_random_steps=100,
            )
            .debugging(seed=0)
        )
        live.train_steps(begin)
        before = driver.memory_info().rss
        window = live.train_steps(end - begin)
        after = driver.memory_info().rss
        live.stop()
    return [
        summarise(
            f"memory: growth of the driver's resident memory from step {begin:,} to {end:,}, "
            f"sac, {ENV}",
            "MB (less is better)",
            [(after - before) / 1e6],
        ),
        summarise(
            f"memory: the same run's speed, updates hardly any, {ENV}",
            "real steps/s",
            [window.env_steps / window.seconds],
        ),
    ]
