"""Tests that all four algorithms learn a one-dimensional task, with the same small settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnm import ALGORITHMS, Agent, Settings
from mnm.offline_training import train_offline
from mnm.terminations import never_terminates
from tests.mnm.mock_environment import SPACES, mean_return, train

STEPS = 300
SETTINGS: dict[str, Any] = {
    "gamma": 0.9,
    "tau": 0.02,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "alpha_lr": 3e-3,
    "initial_alpha": 0.1,
    "hidden_sizes": (32, 32),
    "batch_size": 64,
    "updates_to_data_ratio": 2.0,
    "num_random_steps": 100,
    "replay_capacity": 5000,
    "ensemble_size": 3,
    "num_elites": 2,
    "dynamics_hidden_sizes": (32, 32),
    "dynamics_lr": 3e-3,
    "dynamics_weight_decay": (0.0, 0.0, 0.0),
    "dynamics_batch_size": 64,
    "dynamics_fit_interval": 100,
    "dynamics_max_fit_steps": 200,
    "rollout_schedule": (0, 1, 2, 2),
    "rollouts_per_step": 20,
    "rollout_interval": 20,
    "synthetic_retention": 200,
    "classifier_hidden_sizes": (32, 32),
    "model_lr": 1e-3,
}
# Returns of 20 steps: about 8 for random actions in either task, at most 18.5 and 20.
ENDLESS_SLOPE, ENDLESS_BAR = 0.0, 16.5
ENDING_SLOPE, ENDING_BAR = 0.15, 18.0


def trained_agent(algo: str, slope: float, seed: int, steps: int = STEPS, **changes: Any) -> Agent:
    """An agent after training; where the task ends, it has to learn when."""
    termination = None if slope else never_terminates
    settings = Settings.preset(algo, **{**SETTINGS, **changes})
    agent = Agent(SPACES, settings, termination, seed=seed)
    statistics = train(agent, steps, slope, seed)
    assert agent.updates == max(0, 2 * (steps - 100))
    assert all(np.isfinite(value) for value in statistics.values())
    return agent


def evaluate(agent: Agent, slope: float) -> float:
    """Mean return of the agent's deterministic actions."""
    return mean_return(lambda observations: agent.act(observations, deterministic=True), slope)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_reaches_the_target(algo: str) -> None:
    assert evaluate(trained_agent(algo, ENDLESS_SLOPE, seed=0), ENDLESS_SLOPE) > ENDLESS_BAR


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_stays_on_the_line_with_a_learned_termination(algo: str) -> None:
    agent = trained_agent(algo, ENDING_SLOPE, seed=1)
    assert evaluate(agent, ENDING_SLOPE) > ENDING_BAR
    if agent.networks.dynamics is not None:
        assert agent.networks.dynamics.termination_head is not None


def test_joint_objective_learns_from_shifted_rewards() -> None:
    changes = {"reward_transform": "shift", "reward_shift": 0.01, "log_ratio_weight": 0.05}
    agent = trained_agent("mnm", ENDLESS_SLOPE, seed=0, **changes)
    assert evaluate(agent, ENDLESS_SLOPE) > ENDLESS_BAR


def test_joint_objective_learns_under_learned_stopping() -> None:
    agent = trained_agent("mnm", ENDLESS_SLOPE, seed=0, bound="learned-stopping")
    assert evaluate(agent, ENDLESS_SLOPE) > ENDLESS_BAR


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_reaches_the_target_from_random_steps_of_another_agent(algo: str) -> None:
    made_by = Agent(SPACES, Settings.preset("sac", num_random_steps=STEPS), seed=1)
    train(made_by, STEPS, ENDLESS_SLOPE)
    agent = Agent(SPACES, Settings.preset(algo, **SETTINGS), never_terminates, seed=0)
    agent.ingest_offline(made_by.replay.transitions())
    assert evaluate(agent, ENDLESS_SLOPE) < 0.75 * ENDLESS_BAR
    train_offline(agent, 400)
    assert evaluate(agent, ENDLESS_SLOPE) > ENDLESS_BAR
    assert agent.env_steps == 0


@pytest.mark.parametrize(
    ("slope", "bar"), [(ENDLESS_SLOPE, ENDLESS_BAR), (ENDING_SLOPE, ENDING_BAR)]
)
def test_bars_are_out_of_reach_without_learning(slope: float, bar: float) -> None:
    generator = np.random.default_rng(0)
    at_random = mean_return(lambda rows: generator.uniform(-1, 1, size=(1, 1)), slope, 200)
    assert at_random < 0.6 * bar
    for algo in ALGORITHMS:
        for seed in range(5):
            assert evaluate(trained_agent(algo, slope, seed, steps=0), slope) < 0.75 * bar


@pytest.mark.parametrize(
    ("slope", "bar", "target"),
    [(ENDLESS_SLOPE, ENDLESS_BAR, 0.5), (ENDING_SLOPE, ENDING_BAR, 0.0)],
)
def test_bars_can_be_passed(slope: float, bar: float, target: float) -> None:
    def straight_to_the_target(observations: np.ndarray) -> np.ndarray:
        return np.clip((target - (1 + slope) * observations) / 0.25, -1, 1)

    assert mean_return(straight_to_the_target, slope, 200) > 1.08 * bar
