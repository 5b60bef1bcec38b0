"""Cost of logging transitions, on HalfCheetah's widths: `python -m benchmarks.transition_log`.

The learner's turns of SAC, whose steps are the fastest, with a log and without one in turns; and
what the log takes by itself, in the learner's thread and in its own. A part is written every 1,000
rows, ten times as often as by default.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time

import numpy as np
import ray
import torch

from distributed.learner_core import LearnerCore
from distributed.transition_log import ROWS_PER_PART, TransitionLog
from distributed.wire import to_arrow
from mnm import Agent, Settings, TaskSpaces, Transitions
from mnm.transitions import COLUMNS

OBSERVATION_DIM, ACTION_DIM = 17, 6
ROWS = 10  # of a batch and of a turn
TURNS = 20
ROUNDS = 20


def transitions(count: int) -> Transitions:
    """Random rows."""
    generator = np.random.default_rng(0)
    widths = {"observations": OBSERVATION_DIM, "actions": ACTION_DIM}
    widths["next_observations"] = OBSERVATION_DIM
    columns = {
        name: generator.uniform(-1, 1, (count, width)).astype(np.float32)
        for name, width in widths.items()
    }
    columns["rewards"] = generator.uniform(0, 1, count).astype(np.float32)
    columns["terminateds"] = columns["truncateds"] = np.zeros(count, dtype=bool)
    columns["episode_ids"] = columns["steps"] = np.arange(count)
    return Transitions(*(columns[name] for name in COLUMNS))


def learner() -> LearnerCore:
    """SAC at the defaults, learning from the first step."""
    bounds = np.ones(ACTION_DIM, dtype=np.float32)
    settings = Settings.preset("sac", num_random_steps=0)
    return LearnerCore(Agent(TaskSpaces(OBSERVATION_DIM, -bounds, bounds), settings, seed=0))


def steps_per_second(core: LearnerCore, batches: list[ray.ObjectRef]) -> float:
    """Rate of `TURNS` turns with one batch each."""
    start = time.perf_counter()
    for batch in batches[:TURNS]:
        core.turn([batch], [])
    return TURNS * ROWS / (time.perf_counter() - start)


def main() -> None:
    """Prints the figures as JSON."""
    torch.set_num_threads(1)
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=100_000_000,
        logging_level="ERROR",
    )
    rows = transitions(ROWS)
    batches = [ray.put(to_arrow(rows)) for _ in range(TURNS)]
    plain, logging = learner(), learner()
    with tempfile.TemporaryDirectory() as folder:
        logging.log_transitions(folder, "turns", 1000)
        rates: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(ROUNDS):
            rates["without"].append(steps_per_second(plain, batches))
            rates["with"].append(steps_per_second(logging, batches))
        logging.close_log()
        log = TransitionLog(folder, "alone")
        batch = to_arrow(rows)
        start = time.perf_counter()
        for _ in range(ROWS_PER_PART // ROWS - 1):
            log.append(batch)
        appended = time.perf_counter()
        log.append(batch)
        log.close()
        written = time.perf_counter()
    ray.shutdown()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    shares = [b / a for a, b in zip(rates["without"], rates["with"], strict=True)]
    figures = {
        "steps/s without log": medians["without"],
        "steps/s with log": medians["with"],
        "lost share of steps/s, median of rounds": 1 - statistics.median(shares),
        "largest difference between rounds without log": (
            (max(rates["without"]) - min(rates["without"])) / medians["without"]
        ),
        "append, microseconds a row": (appended - start) / ROWS_PER_PART * 1e6,
        "write, microseconds a row": (written - appended) / ROWS_PER_PART * 1e6,
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
