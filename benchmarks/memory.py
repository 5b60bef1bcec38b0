"""Memory: how much the driver grows over a long run, and a learner over many updates."""

from __future__ import annotations

import psutil

from benchmarks.learner_device import ready_agent
from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, summarise
from mnm import ALGORITHMS, Settings

ENV = "InvertedPendulum-v5"


def rows(quick: bool) -> list[Row]:
    """Growth of resident memory: the driver's over steps, a learning process's over updates."""
    return [*_driver_rows(quick), *(_update_row(algo, quick) for algo in ALGORITHMS)]


def _update_row(algo: str, quick: bool) -> Row:
    """Growth over joint updates with tiny networks, after as many as warm the allocator."""
    warm, updates = (100, 200) if quick else (4_000, 20_000)
    sizes = {
        "hidden_sizes": (16, 16),
        "dynamics_hidden_sizes": (16, 16),
        "dynamics_weight_decay": (0.0, 0.0, 0.0),
        "classifier_hidden_sizes": (16,),
        "ensemble_size": 5,
        "batch_size": 20,
    }
    agent = ready_agent(
        Settings.preset(algo, num_random_steps=0, dynamics_max_fit_steps=10, **sizes), "cpu"
    )
    agent.joint_update.run(warm)
    process = psutil.Process()
    before = process.memory_info().rss
    agent.joint_update.run(updates)
    grown = (process.memory_info().rss - before) / 1e6
    name = f"memory: {updates:,} joint updates of {algo}, tiny networks, growth of the process"
    return summarise(name, "MB (less is better)", [grown])


def _driver_rows(quick: bool) -> list[Row]:
    """Of the driver, with the learner and a collector as actors."""
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
