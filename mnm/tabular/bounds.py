"""Lower bounds on the log return of a policy, computed exactly from a model of the dynamics.

Notation of the equations: real dynamics p(s'|s,a), model q(s'|s,a), policy pi(a|s), positive reward
r(s,a), discount gamma, stop probability k(s,a). Every bound is in nats and is to be compared with
log V, where V is the first output of ``policy_value``. Sources: P is the paper (Eysenbach,
Khazatsky, Levine and Salakhutdinov, "Mismatched No More", NeurIPS 2022) or its authors' public
notebook, D is derived in docs/theory.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mnm.tabular.checks import (
    FloatArray,
    check_count,
    check_dynamics,
    check_gamma,
    check_log_ratio_weight,
    check_model,
    check_policy,
    check_reward,
    check_start,
    check_stop,
)
from mnm.tabular.dynamics import relative_entropy
from mnm.tabular.values import expected_along_time, solve_linear_values


def fixed_discount_bound(
    p: ArrayLike,
    q: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    log_ratio_weight: float = 1.0,
) -> FloatArray:
    """The bound with the discount as it is, for every start state.

    E_{pi,q}[ sum_t gamma^t r~ ] with
    r~(s,a,s') = (1-gamma) log r(s,a) + w log p(s'|s,a)/q(s'|s,a) - (1-gamma) log(1-gamma).
    Source: P for w = 1; D for w = gamma, which is tighter (docs/theory.md, section 1).

    Args:
        p: real dynamics, ``[S, A, S]``.
        q: model, ``[S, A, S]``; zero where ``p`` is zero.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        log_ratio_weight: w, at least ``gamma``; 1 is the paper's.

    Returns:
        ``[S]``, in nats; at most log V in every state.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    q = check_model(q, p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    weight = check_log_ratio_weight(log_ratio_weight, gamma)
    step_reward = fixed_discount_reward(reward, relative_entropy(q, p), gamma, weight)
    return solve_linear_values(q, policy, step_reward, gamma)[0]


def fixed_discount_reward(
    reward: FloatArray, divergence: FloatArray, gamma: float, log_ratio_weight: float
) -> FloatArray:
    """The bound's reward E_q[r~(s,a,s')], unchecked, from the reward and KL(q||p), all [S, A]."""
    constant = (1 - gamma) * math.log1p(-gamma)
    return (1 - gamma) * np.log(reward) - log_ratio_weight * divergence - constant


def learned_stopping_bound(
    p: ArrayLike,
    q: ArrayLike,
    stop: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
) -> FloatArray:
    """The bound with a learned probability of stopping in every state and action.

    B(s,a) = k (log r - log k) + (1-k) (log gamma - log(1-k) + E_q[log p/q + B(s',a')]),
    and the bound is E_pi B. Source: P for the idea; D for this form (docs/theory.md, section 2).

    Args:
        p: real dynamics, ``[S, A, S]``.
        q: model, ``[S, A, S]``; zero where ``p`` is zero.
        stop: k, probability of stopping at (s, a), ``[S, A]``; greater than 0, at most 1.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.

    Returns:
        ``[S]``, in nats; at most log V in every state.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    q = check_model(q, p)
    stop = check_stop(stop, p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    step_reward = _stopping_reward(reward, relative_entropy(q, p), stop, gamma)
    return solve_linear_values(q, policy, step_reward, 1 - stop)[0]


def _stopping_reward(
    reward: FloatArray, divergence: FloatArray, stop: FloatArray, gamma: float
) -> FloatArray:
    """Expected reward of one step of the learned-stopping bound, ``[S, A]``."""
    go_on = 1 - stop
    stop_entropy = -stop * np.log(stop)
    go_on_entropy = -go_on * np.log(np.where(go_on > 0, go_on, 1.0))
    return (
        stop * np.log(reward)
        + go_on * (math.log(gamma) - divergence)
        + stop_entropy
        + go_on_entropy
    )


def time_marginal_bound(
    p: ArrayLike,
    q: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    start: int | ArrayLike,
    horizon: int,
) -> float:
    """The bound with the best stopping time that may depend on time but not on the state.

    logsumexp_{t<horizon} l_t with l_t = E_{pi,q}[ log r_t - sum_{u<t} KL_u ] + t log gamma. It is
    never below the fixed bound with weight ``gamma``, up to the tail cut off at ``horizon``.
    Source: P, the curve of the authors' figure 3b (docs/theory.md, section 2).

    Args:
        p: real dynamics, ``[S, A, S]``.
        q: model, ``[S, A, S]``; zero where ``p`` is zero.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        start: a state, or a distribution over states ``[S]``.
        horizon: number of possible stopping times, at least 1; the bound grows with it.

    Returns:
        The bound on log E[V(start)], in nats.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    q = check_model(q, p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    start = check_start(start, p)
    horizon = check_count(horizon, "horizon")
    divergence = relative_entropy(q, p)
    log_reward_t, divergence_t = expected_along_time(
        q, policy, start, horizon, np.log(reward), divergence
    )
    divergence_before = np.concatenate([[0.0], np.cumsum(divergence_t)[:-1]])
    log_terms = log_reward_t - divergence_before + np.arange(horizon) * math.log(gamma)
    return float(np.logaddexp.reduce(log_terms))


def finite_horizon_bound(
    p: ArrayLike,
    q: ArrayLike,
    policy: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    start: int | ArrayLike,
    horizon: int,
) -> float:
    """The fixed bound for a sum that ends after ``horizon`` rewards.

    With T the horizon and Z = (1-gamma^T)/(1-gamma),
    log Z + E_{pi,q} sum_{t<T} [ gamma^t/Z log r_t + (gamma^(t+1)-gamma^T)/(1-gamma^T) log p/q ],
    to be compared with the logarithm of ``finite_horizon_value``. This is what the deep algorithm
    estimates from sampled rollouts. Source: D (docs/theory.md, section 3).

    Args:
        p: real dynamics, ``[S, A, S]``.
        q: model, ``[S, A, S]``; zero where ``p`` is zero.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        start: a state, or a distribution over states ``[S]``.
        horizon: number of rewards summed, T >= 1.

    Returns:
        The bound, in nats.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    q = check_model(q, p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    start = check_start(start, p)
    horizon = check_count(horizon, "horizon")
    log_reward_t, divergence_t = expected_along_time(
        q, policy, start, horizon, np.log(reward), relative_entropy(q, p)
    )
    powers = gamma ** np.arange(horizon + 1)
    # 1 - gamma^T loses all its digits for gamma near 1 unless taken through expm1.
    tail = -math.expm1(horizon * math.log(gamma))
    normaliser = tail / (1 - gamma)
    reward_weights = powers[:-1] / normaliser
    ratio_weights = (powers[1:] - powers[-1]) / tail
    return float(
        math.log(normaliser) + reward_weights @ log_reward_t - ratio_weights @ divergence_t
    )


def vmbpo_objective(
    p: ArrayLike, q: ArrayLike, policy: ArrayLike, reward: ArrayLike, gamma: float
) -> FloatArray:
    """What VMBPO maximises: the value of r - KL(q||p) in the model, without the logarithm.

    At its best model this is never below V: it averages next states through an exponential, which
    over-estimates returns and prefers risk. Source: P (docs/theory.md, section 4).

    Args:
        p: real dynamics, ``[S, A, S]``.
        q: model, ``[S, A, S]``; zero where ``p`` is zero.
        policy: action probabilities, ``[S, A]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.

    Returns:
        ``[S]``, in units of reward.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    q = check_model(q, p)
    policy = check_policy(policy, p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    return solve_linear_values(q, policy, reward - relative_entropy(q, p), gamma)[0]
