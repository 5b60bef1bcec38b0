"""Exact values and bounds where the answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnm.tabular import (
    finite_horizon_bound,
    finite_horizon_value,
    fixed_discount_bound,
    learned_stopping_bound,
    optimal_policy,
    policy_value,
    solve,
    tight_dynamics_and_stopping,
    time_marginal_bound,
    vmbpo_objective,
)

# Two states; action 0 stays, action 1 goes to the other state with probability 0.8.
P = np.array([[[1.0, 0.0], [0.2, 0.8]], [[0.0, 1.0], [0.8, 0.2]]])
REWARD = np.array([[1.0, 2.0], [4.0, 3.0]])
UNIFORM = np.full((2, 2), 0.5)


def test_value_of_staying_is_a_geometric_series() -> None:
    value, action_values = policy_value(P, [[1, 0], [1, 0]], REWARD, 0.9)
    np.testing.assert_allclose(value, [10.0, 40.0])
    np.testing.assert_allclose(action_values[0, 1], 2 + 0.9 * (0.2 * 10 + 0.8 * 40))


def test_values_satisfy_the_bellman_equations_of_a_stochastic_policy() -> None:
    value, action_values = policy_value(P, UNIFORM, REWARD, 0.7)
    np.testing.assert_allclose(value, action_values.mean(axis=1))
    np.testing.assert_allclose(action_values, REWARD + 0.7 * P @ value)


@pytest.mark.parametrize("unit", [1e-12, 1e6])
def test_the_unit_of_the_rewards_says_nothing(unit: float) -> None:
    best = optimal_policy(P, REWARD, 0.9)
    np.testing.assert_array_equal(optimal_policy(P, unit * REWARD, 0.9), best)
    solved = solve(P, unit * REWARD, 0.9, "q-learning")
    np.testing.assert_array_equal(solved.greedy_policy, best)


def test_optimal_policy_beats_every_deterministic_one() -> None:
    best = policy_value(P, optimal_policy(P, REWARD, 0.9), REWARD, 0.9)[0]
    for first in range(2):
        for second in range(2):
            rival = policy_value(P, np.eye(2)[[first, second]], REWARD, 0.9)[0]
            assert (best >= rival - 1e-12).all()


@pytest.mark.parametrize("weight", [1.0, 0.9])
def test_reward_one_everywhere_gives_log_ten_on_both_sides(weight: float) -> None:
    one = np.ones((2, 2))
    value = policy_value(P, UNIFORM, one, 0.9)[0]
    bound = fixed_discount_bound(P, P, UNIFORM, one, 0.9, weight)
    np.testing.assert_allclose(np.log(value), math.log(10), rtol=1e-14)
    np.testing.assert_allclose(bound, [2.302585092994046] * 2, rtol=1e-14)


def test_reward_one_everywhere_makes_all_bounds_equal_log_ten() -> None:
    one = np.ones((2, 2))
    by_time = time_marginal_bound(P, P, UNIFORM, one, 0.9, start=0, horizon=500)
    by_state = learned_stopping_bound(P, P, np.full((2, 2), 0.1), UNIFORM, one, 0.9)
    q, stop = tight_dynamics_and_stopping(P, UNIFORM, one, 0.9)
    assert by_time == pytest.approx(math.log(10), abs=1e-12)
    np.testing.assert_allclose(by_state, math.log(10), rtol=1e-12)
    np.testing.assert_allclose(q, P, atol=1e-12)
    np.testing.assert_allclose(stop, 0.1, atol=1e-12)
    np.testing.assert_allclose(vmbpo_objective(P, P, UNIFORM, one, 0.9), 10, rtol=1e-12)


def test_fixed_bound_of_one_state_with_two_outcomes_by_hand() -> None:
    # From state 0 a fair coin decides for ever between the two other states.
    p = np.zeros((3, 1, 3))
    p[0, 0, 1:] = 0.5
    p[1, 0, 1] = p[2, 0, 2] = 1.0
    q = p.copy()
    q[0, 0] = [0, 0.25, 0.75]
    reward, policy = np.array([[1.0], [2.0], [8.0]]), np.ones((3, 1))
    divergence = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    per_step = 0.25 * math.log(2) + 0.75 * math.log(8)
    expected = 0.5 * per_step - math.log(0.5)
    for weight in (1.0, 0.5):
        bound = fixed_discount_bound(p, q, policy, reward, 0.5, weight)
        assert bound[0] == pytest.approx(expected - weight * divergence, abs=1e-14)


def test_time_marginal_bound_is_exact_when_nothing_is_random() -> None:
    policy = np.eye(2)[[0, 0]]
    bound = time_marginal_bound(P, P, policy, REWARD, 0.9, start=1, horizon=600)
    assert bound == pytest.approx(math.log(40), abs=1e-12)


def test_time_marginal_bound_of_two_steps_by_hand() -> None:
    q = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.8, 0.2]]])
    go = np.eye(2)[[1, 1]]
    divergence = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    later = 0.5 * math.log(2) + 0.5 * math.log(3)
    expected = math.log(2 + 0.5 * math.exp(later - divergence))
    bound = time_marginal_bound(P, q, go, REWARD, 0.5, start=0, horizon=2)
    assert bound == pytest.approx(expected, abs=1e-14)


def test_time_marginal_bound_of_one_step_is_the_expected_log_reward() -> None:
    start = np.array([0.25, 0.75])
    expected = start @ np.log(REWARD).mean(axis=1)
    assert time_marginal_bound(P, P, UNIFORM, REWARD, 0.9, start, 1) == pytest.approx(expected)


def test_finite_horizon_value_sums_the_first_rewards() -> None:
    stay = [[1, 0], [1, 0]]
    assert finite_horizon_value(P, stay, REWARD, 0.5, 1, horizon=3) == pytest.approx(7.0)
    mixed = finite_horizon_value(P, stay, REWARD, 0.5, [0.5, 0.5], horizon=3)
    assert mixed == pytest.approx((1.75 + 7.0) / 2)


def test_finite_horizon_bound_of_one_reward_needs_no_dynamics() -> None:
    wild = np.array([[[1.0, 0.0], [0.9, 0.1]], [[0.0, 1.0], [0.1, 0.9]]])
    bound = finite_horizon_bound(P, wild, UNIFORM, REWARD, 0.9, 0, horizon=1)
    assert bound == pytest.approx(0.5 * math.log(2.0))


def test_finite_horizon_bound_of_two_rewards_by_hand() -> None:
    q = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.8, 0.2]]])
    go = np.eye(2)[[1, 1]]
    divergence = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    later = 0.5 * math.log(2) + 0.5 * math.log(3)
    # Z = 1.5; weights 1/Z and 0.5/Z on the rewards, (0.5 - 0.25)/(1 - 0.25) on the log ratio.
    expected = math.log(1.5) + (math.log(2) + 0.5 * later) / 1.5 - divergence / 3
    bound = finite_horizon_bound(P, q, go, REWARD, 0.5, 0, horizon=2)
    assert bound == pytest.approx(expected, abs=1e-14)


def test_stopping_at_once_is_worth_the_log_reward_whatever_the_model() -> None:
    bound = learned_stopping_bound(P, P, np.ones((2, 2)), UNIFORM, REWARD, 0.9)
    np.testing.assert_allclose(bound, np.log(REWARD).mean(axis=1))


def test_tight_construction_survives_rewards_over_fourteen_orders_of_magnitude() -> None:
    reward = np.array([[1e-5, 1e-5], [1e9, 1e9]])
    policy = np.eye(2)[[1, 0]]
    q, stop = tight_dynamics_and_stopping(P, policy, reward, 0.9)
    bound = learned_stopping_bound(P, q, stop, policy, reward, 0.9)
    log_value = np.log(policy_value(P, policy, reward, 0.9)[0])
    np.testing.assert_allclose(bound, log_value, rtol=0, atol=1e-9)
