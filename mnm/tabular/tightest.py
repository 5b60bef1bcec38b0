"""The best model, and the best time to stop, for a policy that is held still.

Both searches maximise, over the model, a bound that is linear in it apart from a relative entropy.
That makes them control problems: improve the model against the current bound, evaluate the bound by
one linear solve, repeat. Every round is a Newton step on a convex fixed point, so the bound never
falls and a handful of rounds reach rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from mnm.tabular.bounds import fixed_discount_bound, learned_stopping_bound
from mnm.tabular.checks import (
    FloatArray,
    check_dynamics,
    check_gamma,
    check_log_ratio_weight,
    check_policy,
    check_reward,
)
from mnm.tabular.dynamics import tilt
from mnm.tabular.values import solve_linear_values

MAX_ROUNDS = 200
CHANGE_TOLERANCE = 1e-13

Response = TypeVar("Response")


def tight_dynamics_and_stopping(
    p: ArrayLike, policy: ArrayLike, reward: ArrayLike, gamma: float
) -> tuple[FloatArray, FloatArray]:
    """The model and stop probabilities that make the learned-stopping bound as high as it goes.

    With G(s,a) = r + gamma sum_s' p(s'|s,a) exp(E_{a'~pi} log G(s',a')),
    q* is proportional to p(s'|s,a) exp(E_pi log G(s',.)) and k*(s,a) = r(s,a) / G(s,a), and the
    bound is E_pi log G. For a deterministic policy G is the ordinary Q, and the bound equals the
    log return exactly. Source: D (docs/theory.md, section 2).

    Args:
        p: real dynamics, ``[S, A, S]``.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.

    Returns:
        ``(q, stop)`` of shapes ``[S, A, S]`` and ``[S, A]``, to be given to
        ``learned_stopping_bound``.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)

    def best_response(bound: FloatArray) -> tuple[FloatArray, FloatArray]:
        # exp(bound) is divided by its largest entry, which cancels against log r - log G.
        shift = bound.max()
        q = tilt(p, bound)
        scaled_reward = np.exp(np.log(reward) - shift)
        growth = scaled_reward + gamma * (p @ np.exp(bound - shift))
        return q, scaled_reward / growth

    def evaluate(response: tuple[FloatArray, FloatArray]) -> FloatArray:
        return learned_stopping_bound(p, *response, policy, reward, gamma)

    # log V is the answer for a deterministic policy and close to it for others.
    first_guess = np.log(solve_linear_values(p, policy, reward, gamma)[0])
    return _climb(first_guess, best_response, evaluate)


def tightest_fixed_dynamics(
    p: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    log_ratio_weight: float = 1.0,
) -> FloatArray:
    """The model that makes the fixed bound of a policy as high as it goes.

    q* is proportional to p(s'|s,a) exp(gamma V~(s') / w), with V~ the fixed bound under q* itself.
    Source: P for the idea; D for the factor gamma / w (docs/theory.md, section 4).

    Args:
        p: real dynamics, ``[S, A, S]``.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        log_ratio_weight: w, at least ``gamma``; 1 is the paper's.

    Returns:
        The model, ``[S, A, S]``.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    weight = check_log_ratio_weight(log_ratio_weight, gamma)

    def best_response(bound: FloatArray) -> FloatArray:
        return tilt(p, gamma * bound / weight)

    def evaluate(q: FloatArray) -> FloatArray:
        return fixed_discount_bound(p, q, policy, reward, gamma, weight)

    return _climb(evaluate(p), best_response, evaluate)


def _climb(
    bound: FloatArray,
    best_response: Callable[[FloatArray], Response],
    evaluate: Callable[[Response], FloatArray],
) -> Response:
    """Alternate best response and evaluation until the bound stops moving."""
    change = math.inf
    for _ in range(MAX_ROUNDS):
        response = best_response(bound)
        new_bound = evaluate(response)
        new_change = float(np.abs(new_bound - bound).max())
        scale = max(1.0, float(np.abs(new_bound).max()))
        # Newton's steps shrink until rounding takes over; there is nothing to gain after that.
        stalled = new_change >= change and new_change < 1e-9 * scale
        if new_change <= CHANGE_TOLERANCE * scale or stalled:
            return response
        bound, change = new_bound, new_change
    raise RuntimeError(f"the bound did not settle in {MAX_ROUNDS} rounds (last change {change}).")
