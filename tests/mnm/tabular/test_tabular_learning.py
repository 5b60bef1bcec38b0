"""Learning online: the paper's claim at full size, and the machinery at small size."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from mnm.tabular import gridworld, learning_curves, optimal_policy, optimistic_dynamics
from mnm.tabular.dynamics import relative_entropy
from mnm.tabular.experiments import learning
from mnm.tabular.learning import _Learners

SMALL = gridworld(4, 4, start=(0, 0), goal=(3, 3), step_reward=0.01, goal_reward=10.0, noise=0.3)
QUICK: dict[str, Any] = {
    "iterations": 61,
    "episode_length": 50,
    "step_size": 0.01,
    "evaluate_every": 10,
}


def test_mnm_ends_near_the_optimum_in_every_seed_and_the_others_trail() -> None:
    data = learning(5, lambda done: None)
    final = {method: np.array(ends) for method, ends in data["final_fraction_of_optimum"].items()}
    assert final["mnm"].shape == (5,)
    assert (final["mnm"] >= 0.97).all()
    assert (final["mnm"] <= 1.0 + 1e-9).all()
    assert (final["q-learning"] < 0.02).all()
    assert (final["vmbpo"] < 0.02).all()
    assert data["iterations"][-1] == 1500


def test_small_world_is_learned_in_a_few_episodes() -> None:
    curves = learning_curves(SMALL.dynamics, SMALL.reward, 0.9, 0, seeds=3, **QUICK)
    assert set(curves.returns) == {"mnm", "vmbpo", "q-learning"}
    assert curves.returns["mnm"].shape == (3, 7)
    assert (curves.returns["mnm"][:, -1] > 0.9 * curves.optimum).all()
    assert (curves.returns["mnm"] <= curves.optimum + 1e-9).all()


def test_a_seed_learns_the_same_whatever_runs_beside_it() -> None:
    together = learning_curves(SMALL.dynamics, SMALL.reward, 0.9, 0, seeds=3, **QUICK)
    alone = learning_curves(
        SMALL.dynamics, SMALL.reward, 0.9, 0, seeds=1, methods=["q-learning"], **QUICK
    )
    np.testing.assert_array_equal(together.returns["q-learning"][0], alone.returns["q-learning"][0])
    assert not np.array_equal(together.returns["mnm"][0], together.returns["mnm"][1])


def test_progress_is_reported_once_per_iteration() -> None:
    seen: list[int] = []
    learning_curves(
        SMALL.dynamics, SMALL.reward, 0.9, 0, seeds=1, on_iteration=seen.append, **QUICK
    )
    assert seen == list(range(1, 62))


def test_a_high_start_makes_q_learning_explore_too() -> None:
    curves = learning_curves(
        SMALL.dynamics,
        SMALL.reward,
        0.9,
        0,
        seeds=3,
        methods=["q-learning"],
        initial_values={"q-learning": 100.0},
        **{**QUICK, "iterations": 201},
    )
    assert curves.returns["q-learning"][:, -1].mean() > 0.9 * curves.optimum


def test_model_and_divergence_are_those_of_the_exact_functions() -> None:
    learners = _Learners(SMALL.dynamics, SMALL.reward, 0.9, ["mnm", "q-learning"], seeds=1)
    learners.action_values += np.random.default_rng(0).normal(size=learners.action_values.shape)
    learners.update_model()
    dense = np.zeros((2, *SMALL.dynamics.shape))
    np.put_along_axis(
        dense, np.broadcast_to(learners.next_states, learners.model.shape), learners.model, axis=3
    )
    tilted = optimistic_dynamics(SMALL.dynamics, learners.action_values[0].max(axis=1))
    np.testing.assert_allclose(dense[0], tilted, atol=1e-12)
    np.testing.assert_allclose(dense[1], SMALL.dynamics, atol=1e-12)
    divergence = relative_entropy(tilted, SMALL.dynamics)
    np.testing.assert_allclose(learners.divergence[0], divergence, atol=1e-12)
    np.testing.assert_allclose(learners.divergence[1], 0.0, atol=1e-12)


def test_one_pass_is_the_mean_over_the_orders_of_its_single_steps() -> None:
    learners = _Learners(SMALL.dynamics, SMALL.reward, 0.9, ["q-learning"], seeds=1)
    learners.action_values += np.random.default_rng(1).uniform(size=learners.action_values.shape)
    learners.counts[0, 5, 2, :2] = 3, 4
    value = learners.action_values[0].max(axis=1)
    first, second = SMALL.reward[5, 2] + 0.9 * value[learners.next_states[5, 2, :2]]
    ends = []
    for places in combinations(range(7), 3):  # of the first target's pulls among the seven
        value_now = learners.action_values[0, 5, 2]
        for pull in range(7):
            value_now += 0.1 * ((first if pull in places else second) - value_now)
        ends.append(value_now)
    expected = np.mean(ends)
    untouched = learners.action_values[0, 6].copy()
    learners.learn(step_size=0.1)
    assert learners.action_values[0, 5, 2] == pytest.approx(expected)
    np.testing.assert_array_equal(learners.action_values[0, 6], untouched)


def test_episodes_follow_the_model() -> None:
    learners = _Learners(SMALL.dynamics, SMALL.reward, 0.9, ["q-learning"], seeds=1)
    for _ in range(200):
        learners.act(0, 200, exploration=1.0)
    seen = learners.counts[0].sum(axis=-1, keepdims=True)
    assert seen.sum() == 200 * 200
    assert seen.min() > 100
    frequency = learners.counts[0] / seen
    np.testing.assert_allclose(frequency, learners.probabilities, atol=0.12)
    error = np.abs(frequency - learners.probabilities).mean()
    assert error < 0.015


def test_optimum_is_the_value_of_the_optimal_policy() -> None:
    curves = learning_curves(SMALL.dynamics, SMALL.reward, 0.9, 0, seeds=1, **QUICK)
    policy = optimal_policy(SMALL.dynamics, SMALL.reward, 0.9)
    transition = np.einsum("sa,sat->st", policy, SMALL.dynamics)
    value = np.linalg.inv(np.eye(16) - 0.9 * transition) @ (policy * SMALL.reward).sum(axis=1)
    assert curves.optimum == pytest.approx(value[0])
