"""Small settings and made-up transitions that the tests of `mnm` share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mnm import Agent, Settings, TaskSpaces, Transitions
from mnm.terminations import TerminationFunction, never_terminates
from mnm.transitions import COLUMNS

SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16),
    "batch_size": 16,
    "num_random_steps": 20,
    "replay_capacity": 1000,
    "updates_to_data_ratio": 1.0,
    "ensemble_size": 3,
    "num_elites": 2,
    "dynamics_hidden_sizes": (16, 16),
    "dynamics_weight_decay": (0.0, 0.0, 0.0),
    "dynamics_batch_size": 16,
    "dynamics_fit_interval": 15,
    "dynamics_max_fit_steps": 20,
    "rollout_interval": 10,
    "rollouts_per_step": 3,
    "rollout_schedule": (0, 1, 2, 2),
    "synthetic_retention": 30,
    "classifier_hidden_sizes": (16,),
}
SPACES = TaskSpaces(2, np.array([-2.0], np.float32), np.array([4.0], np.float32))


def small_settings(algo: str, **changes: Any) -> Settings:
    """The preset of `algo` with small networks and short intervals."""
    return Settings.preset(algo, **{**SMALL, **changes})


def small_agent(
    algo: str,
    seed: int | None = 0,
    termination: TerminationFunction | None = never_terminates,
    **changes: Any,
) -> Agent:
    """An agent of `small_settings` for two observations and one action in [-2, 4]."""
    return Agent(SPACES, small_settings(algo, **changes), termination, seed=seed)


def random_transitions(
    count: int, seed: int = 0, observation_dim: int = 2, action_dim: int = 1, first: int = 0
) -> Transitions:
    """Noisy linear dynamics with positive rewards; `first` numbers row 0 among all rows."""
    generator = np.random.default_rng([seed, first])
    observations = generator.normal(size=(count, observation_dim))
    actions = generator.uniform(-2, 4, size=(count, action_dim))
    changes = 0.1 * observations + 0.2 * actions.sum(1, keepdims=True)
    next_observations = observations + changes + 0.05 * generator.normal(size=changes.shape)
    rows = np.arange(first, first + count)
    return Transitions(
        observations.astype(np.float32),
        actions.astype(np.float32),
        np.exp(-np.square(next_observations[:, 0])).astype(np.float32),
        next_observations.astype(np.float32),
        np.zeros(count, dtype=bool),
        rows % 10 == 9,
        rows // 10,
        rows % 10,
    )


def ready_agent(algo: str, **changes: Any) -> Agent:
    """An agent with real and imagined transitions and a fitted model that has made no update."""
    agent = small_agent(algo, **{"termination": None, **changes})
    rows = random_transitions(60)
    rows.terminateds[::7] = True
    agent.ingest(rows)
    agent.fit_if_due()
    request = agent.rollout_request()
    if request is not None:
        agent.ingest_synthetic(agent.imagine(request))
    return agent


def numbered(first: int, count: int) -> Transitions:
    """Rows whose every column follows from their own number."""
    numbers = np.arange(first, first + count)
    return Transitions(
        np.stack([numbers, -numbers], axis=1).astype(np.float32),
        (numbers[:, None] / 2).astype(np.float32),
        numbers.astype(np.float32),
        np.stack([numbers + 1, 3 * numbers], axis=1).astype(np.float32),
        numbers % 3 == 0,
        numbers % 5 == 0,
        numbers * 10**12,  # beyond what a float32 column could hold
        numbers + 7,
    )


def assert_same_rows(actual: Transitions, expected: Transitions) -> None:
    """Fails where two batches differ in a bit, a type or a shape."""
    for name in COLUMNS:
        one, other = getattr(actual, name), getattr(expected, name)
        np.testing.assert_array_equal(one, other, err_msg=name, strict=True)


def parameters_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a module's parameters and buffers by name."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are equal bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def flat_tensors(state: Any, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors within nested dicts and lists, by their places."""
    if isinstance(state, torch.Tensor):
        return {path: state.detach().cpu().clone()}
    if isinstance(state, int | float):
        return {path: torch.tensor(state, dtype=torch.float64)}
    items = state.items() if isinstance(state, dict) else enumerate(state or ())
    if isinstance(state, str):
        return {}
    found: dict[str, torch.Tensor] = {}
    for name, value in items:
        found.update(flat_tensors(value, f"{path}/{name}"))
    return found
