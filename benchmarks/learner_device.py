"""Updates a second of the learner on any device; needs torch and `mnm/` alone.

python -m benchmarks.learner_device [--device cuda] [--batch-size 256 ...] [--quick]
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from benchmarks.measure import Row, compare
from mnm import ALGORITHMS, Agent, Settings, TaskSpaces, Transitions
from mnm.terminations import never_terminates

OBSERVATION_DIM, ACTION_DIM = 17, 6  # HalfCheetah-v5
HIGH = np.ones(ACTION_DIM, dtype=np.float32)
SPACES = TaskSpaces(OBSERVATION_DIM, -HIGH, HIGH)
ROWS = 5000


def random_transitions(count: int) -> Transitions:
    """Rows of HalfCheetah's widths, in episodes of a thousand steps."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)

    numbers = np.arange(count)
    return Transitions(
        observations=normal(count, OBSERVATION_DIM),
        actions=np.clip(normal(count, ACTION_DIM), -1, 1),
        rewards=normal(count),
        next_observations=normal(count, OBSERVATION_DIM),
        terminateds=np.zeros(count, dtype=bool),
        truncateds=numbers % 1000 == 999,
        episode_ids=numbers // 1000,
        steps=numbers % 1000,
    )


def ready_agent(settings: Settings, device: str) -> Agent:
    """An agent with `ROWS` random transitions and, where it has a model, rollouts from it."""
    agent = Agent(SPACES, settings, never_terminates, device, seed=0)
    agent.ingest(random_transitions(ROWS))
    agent.fit_if_due()
    request = agent.rollout_request()
    if request is not None:
        agent.ingest_synthetic(agent.imagine(request))
    return agent


def synchronise(device: str) -> None:
    """Waits for what the device still computes, before a clock is read."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(algo: str, batch_size: int, device: str, updates: int, repeats: int) -> Row:
    """Joint updates a second of one algorithm."""
    settings = Settings.preset(
        algo, batch_size=batch_size, num_random_steps=0, dynamics_max_fit_steps=10
    )
    agent = ready_agent(settings, device)

    def work() -> int:
        agent.joint_update.run(updates)
        synchronise(device)
        return updates

    name = f"learner {algo}, batch {batch_size}, {device}"
    return compare(name, "updates/s", work, repeats=repeats)


def main() -> None:
    """Prints one JSON row per algorithm and batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[256])
    parser.add_argument("--updates", type=int, default=100, help="per repeat")
    parser.add_argument("--quick", action="store_true", help="fewer updates and repeats")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    updates, repeats = (20, 3) if arguments.quick else (arguments.updates, 5)
    for batch_size in arguments.batch_size:
        for algo in ALGORITHMS:
            row = measure(algo, batch_size, arguments.device, updates, repeats)
            print(json.dumps(row.to_dict()), flush=True)


if __name__ == "__main__":
    main()
