"""Collector: steps a second against RLlib's own runner and a bare loop over the environments."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from functools import partial

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from benchmarks.local_ray import local_ray
from benchmarks.measure import REPEATS, Row, alternate, milliseconds, rate, summarise
from mnm.policy import NumpyPolicy, numpy_weights
from rllib_ext import MnMConfig
from rllib_ext.env_runner import MnMEnvRunner

TASKS = ("HalfCheetah-v5", "InvertedPendulum-v5")
ENVIRONMENTS = (1, 8)
LONG_REQUEST = 64  # vector steps
HIDDEN = (256, 256)


class BareLoop:
    """Acts, steps and resets in a plain Python loop; keeps no row.

    Args:
        task: Gymnasium id.
        count: environments, whose actions are computed together.
        policy: of the actions.
    """

    def __init__(self, task: str, count: int, policy: NumpyPolicy) -> None:
        self.envs = [gym.make(task) for _ in range(count)]
        self.policy = policy
        self.generator = np.random.default_rng(0)
        self.observations = [env.reset(seed=seed)[0] for seed, env in enumerate(self.envs)]

    def run(self, steps: int) -> int:
        """Makes `steps` steps of all environments together; returns how many."""
        envs, observations = self.envs, self.observations
        for _ in range(steps // len(envs)):
            actions = self.policy(np.asarray(observations, dtype=np.float32), self.generator)
            for i, env in enumerate(envs):
                observation, _, terminated, truncated, _ = env.step(actions[i])
                observations[i] = env.reset()[0] if terminated or truncated else observation
        return steps // len(envs) * len(envs)


def own_runner(task: str, count: int) -> MnMEnvRunner:
    """Our runner as RLlib makes one."""
    config = (
        MnMConfig()
        .environment(task)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=count)
        .training(algo="sac", hidden_sizes=HIDDEN)
        .debugging(seed=0)
    )
    return MnMEnvRunner(config=config.copy(copy_frozen=False), worker_index=0, num_workers=0)


def peer_runner(task: str, count: int) -> SingleAgentEnvRunner:
    """RLlib's runner with a policy of the same size."""
    model = DefaultModelConfig(
        fcnet_hiddens=list(HIDDEN),
        fcnet_activation="relu",
        head_fcnet_hiddens=[],
        head_fcnet_activation=None,
    )
    config = (
        SACConfig()
        .environment(task)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=count)
        .rl_module(model_config=model)
        .debugging(seed=0)
    )
    return SingleAgentEnvRunner(config=config, worker_index=0, num_workers=0)


def answer_requests(
    runner: MnMEnvRunner, weights: list[ray.ObjectRef], vector_steps: int, steps: int
) -> int:
    """Requests of `vector_steps` until `steps` rows are there; all but the `ray.put`."""
    done = 0
    while done < steps:
        done += runner.collect_batch(weights, vector_steps, done)[1]
    return done


def sample(runner: SingleAgentEnvRunner, steps: int) -> int:
    """One sample of at least `steps` steps; RLlib's episode objects as they come."""
    return sum(len(episode) for episode in runner.sample(num_timesteps=steps, explore=True))


def task_rows(task: str, count: int, scale: int, repeats: int) -> list[Row]:
    """Our runner by default requests and long ones, the peer and the bare loop, in turns."""
    own, peer = own_runner(task, count), peer_runner(task, count)
    weights = numpy_weights(own.module.policy)
    references = [ray.put(weights)]
    lengths = (int(own.config.rollout_fragment_length), LONG_REQUEST)
    works: dict[str, Callable[[], int]] = {
        "limit": partial(BareLoop(task, count, NumpyPolicy(weights)).run, 4 * scale),
        "peer": partial(sample, peer, scale),
    }
    for length in lengths:
        works[str(length)] = partial(answer_requests, own, references, length, 4 * scale)
    for work in works.values():
        work()
    rates = alternate({side: partial(rate, work) for side, work in works.items()}, repeats)
    return [
        summarise(
            f"collector: {task}, {count} env{'s' * (count > 1)}, {length} vector steps a request",
            "steps/s",
            rates[str(length)],
            rates["peer"],
            "RLlib SingleAgentEnvRunner",
            statistics.median(rates["limit"]),
        )
        for length in lengths
    ]


def put_row(vector_steps: int, puts: int, repeats: int) -> Row:
    """What comes on top of a request: its batch into the object store."""
    runner = own_runner(TASKS[0], 1)
    batch = runner.collect_batch([ray.put(numpy_weights(runner.module.policy))], vector_steps, 0)[0]

    def work() -> int:
        for _ in range(puts):
            ray.put(batch)
        return puts

    work()
    times = [milliseconds(work) for _ in range(repeats)]
    return summarise(f"collector: ray.put of {vector_steps} rows", "ms (less is better)", times)


def rows(quick: bool) -> list[Row]:
    """For each task and number of environments; 256x256, exploring, one thread."""
    # MuJoCo says at every environment that a model file is of an older version.
    gym.logger.min_level = logging.ERROR
    scale, repeats = (200, 3) if quick else (1000, REPEATS)
    results = []
    with local_ray(num_cpus=1):
        for task in TASKS:
            for count in ENVIRONMENTS:
                results += task_rows(task, count, scale, repeats)
        results.append(put_row(LONG_REQUEST, scale, repeats))
    return results
