"""SAC end to end, MnM's against RLlib's on one task with equal settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)

from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import Row, alternate, summarise
from mnm import Settings
from mnm.agent_networks import build_networks
from rllib_ext.environments import task_spaces

ENV = "HalfCheetah-v5"
BATCH_SIZE = 256
HIDDEN = [256, 256]
FRAGMENT = 10  # steps a request, MnM's default
TARGETS = "target"  # in the names of what no optimizer moves


class RLlibSAC:
    """RLlib's SAC with one update per real step, uniform replay and MnM's learning rates.

    Its critic loss stays Huber's and its Q networks larger than ours: neither can be set.

    Args:
        fragment: steps between two rounds of as many updates.
        remote: one environment runner and the learner as actors; else both in the driver.
        random_steps: before learning starts.
    """

    def __init__(self, fragment: int, remote: bool, random_steps: int) -> None:
        actors = int(remote)
        # RLlib counts its local runner in although it makes no steps beside a remote one.
        intensity = BATCH_SIZE / (1 + actors)
        config = (
            SACConfig()
            .environment(ENV)
            .env_runners(num_env_runners=actors, rollout_fragment_length=fragment)
            .learners(num_learners=actors)
            .training(
                actor_lr=3e-4,
                critic_lr=3e-4,
                alpha_lr=3e-4,
                initial_alpha=1.0,
                train_batch_size_per_learner=BATCH_SIZE,
                training_intensity=intensity,
                num_steps_sampled_before_learning_starts=random_steps,
                replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1_000_000},
            )
            .rl_module(model_config={"fcnet_hiddens": HIDDEN, "head_fcnet_hiddens": []})
            .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=FRAGMENT)
            .debugging(seed=0, log_sys_usage=False)
        )
        self.algorithm = config.build_algo()
        self.result: dict[str, Any] = {}
        while self.result.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0) <= random_steps:
            self.result = self.algorithm.train()

    def updates_per_second(self, seconds: float) -> float:
        """Trains for about that long.

        Raises:
            RuntimeError: it did not make one update per real step.
        """
        start = time.perf_counter()
        steps_before, updates_before = self._counts()
        while time.perf_counter() < start + seconds:
            self.result = self.algorithm.train()
        elapsed = time.perf_counter() - start
        steps_after, updates_after = self._counts()
        steps, updates = steps_after - steps_before, updates_after - updates_before
        if steps != updates:
            raise RuntimeError(f"RLlib's SAC made {updates} updates in {steps} steps.")
        return updates / elapsed

    def _counts(self) -> tuple[int, int]:
        trained = self.result[LEARNER_RESULTS][ALL_MODULES][NUM_ENV_STEPS_TRAINED_LIFETIME]
        return int(self.result[NUM_ENV_STEPS_SAMPLED_LIFETIME]), int(trained) // BATCH_SIZE


def trained_parameters(module: Any) -> int:
    """Parameters without those of target networks."""
    return sum(
        parameter.numel() for name, parameter in module.named_parameters() if TARGETS not in name
    )


def own_parameters() -> int:
    """`trained_parameters` of MnM's policy, critics and temperature on the task."""
    env = gym.make(ENV)
    spaces = task_spaces(env.observation_space, env.action_space)
    networks = build_networks(spaces, Settings.preset("sac"), None)
    own = trained_parameters(networks)
    # Of mnm-approx alone.
    return own - networks.log_classifier_reward_weight.numel()


def rows(quick: bool) -> list[Row]:
    """Ours, learner and one collector as actors, against RLlib's local one and its remote one."""
    random_steps, seconds, repeats = (100, 1.0, 3) if quick else (1500, 10.0, 5)
    with local_ray(num_cpus=2 if quick else 4):
        actors = Actors(collectors=1, learner=True)
        settings: dict[str, Any] = {"algo": "sac", "num_random_steps": random_steps}
        ours = Live(live_config(ENV, actors, iteration=5 * FRAGMENT, **settings))
        ours.train_steps(random_steps + 50)
        peers = {"local": RLlibSAC(FRAGMENT, False, random_steps)}
        if not quick:
            peers["local, its default of 1 step a request"] = RLlibSAC(1, False, random_steps)
            peers["learner and runner as actors"] = RLlibSAC(FRAGMENT, True, random_steps)

        def own_rate() -> float:
            window = ours.train_seconds(seconds)
            return window.updates / window.seconds

        sides: dict[str, Callable[[], float]] = {"ours": own_rate}
        for name, peer in peers.items():
            sides[name] = partial(peer.updates_per_second, seconds)
        figures = alternate(sides, repeats)
        (size,) = peers["local"].algorithm.learner_group.foreach_learner(
            lambda learner: sum(trained_parameters(module) for module in learner.module.values())
        )
        for peer in peers.values():
            peer.algorithm.stop()
        ours.stop()
    return [
        summarise(
            f"end_to_end: sac, {ENV}, 1 update per step, batch {BATCH_SIZE}, "
            f"{actors}, {own_parameters():,} trained parameters, RLlib {name}",
            "updates/s",
            figures["ours"],
            figures[name],
            f"RLlib SAC, {size.get():,} trained parameters",
        )
        for name in peers
    ]
