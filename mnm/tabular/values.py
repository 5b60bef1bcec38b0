"""Exact values of a policy: one linear solve instead of iteration to a tolerance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mnm.tabular.checks import (
    FloatArray,
    check_count,
    check_dynamics,
    check_gamma,
    check_policy,
    check_reward,
    check_start,
)

TIE_TOLERANCE = 1e-10
MAX_POLICY_ITERATIONS = 1000


def policy_value(
    p: ArrayLike, policy: ArrayLike, reward: ArrayLike, gamma: float
) -> tuple[FloatArray, FloatArray]:
    """Values of a policy: V(s) = E_{pi,p}[ sum_t gamma^t r(s_t, a_t) | s_0 = s ].

    The sum is not normalised by (1 - gamma). This is the return whose logarithm the bounds are
    about. Source: textbook; docs/theory.md, section 0.

    Args:
        p: dynamics, ``[S, A, S]``.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.

    Returns:
        ``(V, Q)`` of shapes ``[S]`` and ``[S, A]``, in units of reward.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    return solve_linear_values(p, policy, reward, gamma)


def solve_linear_values(
    dynamics: FloatArray,
    policy: FloatArray,
    step_reward: FloatArray,
    continuation: float | FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Solve V = E_pi[ step_reward + continuation * dynamics V ] for a step reward of any sign.

    The unchecked core that every exact value and bound here shares.

    Args:
        dynamics: ``[S, A, S]``.
        policy: ``[S, A]``.
        step_reward: ``[S, A]``.
        continuation: the discount, or a factor per state and action ``[S, A]``, below 1.

    Returns:
        ``(V, Q)`` of shapes ``[S]`` and ``[S, A]``.
    """
    weights = policy * continuation
    transition = np.einsum("sa,sat->st", weights, dynamics)
    expected_reward = (policy * step_reward).sum(axis=1)
    value = np.linalg.solve(np.eye(len(transition)) - transition, expected_reward)
    return value, step_reward + continuation * (dynamics @ value)


def finite_horizon_value(
    p: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    start: int | ArrayLike,
    horizon: int,
) -> float:
    """Expected discounted sum of the first ``horizon`` rewards, E_{pi,p}[ sum_{t<T} gamma^t r_t ].

    Args:
        p: dynamics, ``[S, A, S]``.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        start: a state, or a distribution over states ``[S]``.
        horizon: number of rewards summed, T >= 1.

    Returns:
        The value from ``start``, in units of reward.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    start = check_start(start, p)
    horizon = check_count(horizon, "horizon")
    rewards = expected_along_time(p, policy, start, horizon, reward)[0]
    return float(rewards @ gamma ** np.arange(horizon))


def expected_along_time(
    dynamics: FloatArray,
    policy: FloatArray,
    start: FloatArray,
    horizon: int,
    *quantities: FloatArray,
) -> FloatArray:
    """Expectations of state-action quantities at the times 0 to ``horizon`` - 1.

    Args:
        dynamics: ``[S, A, S]``.
        policy: ``[S, A]``.
        start: distribution of the first state, ``[S]``.
        horizon: number of time steps, T.
        *quantities: tables ``[S, A]``.

    Returns:
        ``[len(quantities), T]``.
    """
    transition = np.einsum("sa,sat->st", policy, dynamics)
    per_state = np.stack([(policy * quantity).sum(axis=1) for quantity in quantities])
    expectations = np.empty((len(quantities), horizon))
    states = start
    for time in range(horizon):
        expectations[:, time] = per_state @ states
        states = states @ transition
    return expectations


def greedy_policy(action_values: FloatArray) -> FloatArray:
    """Deterministic policy on the first action that is best up to rounding error.

    Without the tolerance two equally good actions would take turns from one iteration to the next
    as rounding favours one or the other, and nothing would ever converge.

    Args:
        action_values: ``[S, A]``.

    Returns:
        One-hot action probabilities ``[S, A]``.
    """
    best = action_values.max(axis=1, keepdims=True)
    scale = np.maximum(np.abs(action_values).max(axis=1, keepdims=True), 1.0)
    choice = np.argmax(action_values >= best - TIE_TOLERANCE * scale, axis=1)
    policy: FloatArray = np.eye(action_values.shape[1])[choice]
    return policy


def optimal_policy(p: ArrayLike, reward: ArrayLike, gamma: float) -> FloatArray:
    """Best deterministic policy in the real dynamics, by policy iteration with exact evaluation.

    Args:
        p: dynamics, ``[S, A, S]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.

    Returns:
        One-hot action probabilities ``[S, A]``.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    table = check_reward(reward, p)
    gamma = check_gamma(gamma)
    table = table / table.max()  # the unit says nothing; ties are told by an absolute one
    policy = greedy_policy(table)
    for _ in range(MAX_POLICY_ITERATIONS):
        improved = greedy_policy(solve_linear_values(p, policy, table, gamma)[1])
        if np.array_equal(improved, policy):
            return policy
        policy = improved
    raise RuntimeError(f"policy iteration did not settle in {MAX_POLICY_ITERATIONS} rounds.")
