"""Planning with known dynamics: policy and model take turns improving the same objective.

One iteration evaluates the present policy in the present model exactly, then moves the policy part
of the way to the greedy one and the model part of the way to its best response. Undamped, the two
can chase each other in a circle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from mnm.tabular.bounds import fixed_discount_reward
from mnm.tabular.checks import (
    FloatArray,
    check_count,
    check_dynamics,
    check_fraction,
    check_gamma,
    check_log_ratio_weight,
    check_model,
    check_positive,
    check_reward,
)
from mnm.tabular.dynamics import relative_entropy, tilt
from mnm.tabular.values import greedy_policy, solve_linear_values

Method = Literal["mnm", "vmbpo", "q-learning"]


@dataclass(frozen=True, eq=False)
class Iterate:
    """Policy and model at the beginning of one iteration, and what they are worth.

    Attributes:
        policy: action probabilities, ``[S, A]``.
        model: the model the policy was evaluated in, ``[S, A, S]``.
        objective: value of the method's own objective in the model, ``[S]``.
        greedy_policy: the deterministic policy this iteration moves towards, ``[S, A]``.
    """

    policy: FloatArray
    model: FloatArray
    objective: FloatArray
    greedy_policy: FloatArray


@dataclass(frozen=True, eq=False)
class Solution:
    """Where an alternation ended, and how it got there.

    Attributes:
        policy: final action probabilities, ``[S, A]``.
        greedy_policy: the deterministic policy it is heading for, greedy in the final model,
            ``[S, A]``.
        model: final model, ``[S, A, S]``.
        values: true value of the policy at each iteration, ``[iterations, S]``, in reward units.
        objectives: the method's own objective at each iteration, ``[iterations, S]``; for
            ``"mnm"`` the fixed bound in nats, otherwise in reward units.
        policy_changes: largest change of an action probability in each iteration,
            ``[iterations]``.
        model_changes: largest change of a next-state probability in each iteration,
            ``[iterations]``.
    """

    policy: FloatArray
    greedy_policy: FloatArray
    model: FloatArray
    values: FloatArray
    objectives: FloatArray
    policy_changes: FloatArray
    model_changes: FloatArray


def solve(
    p: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    method: Method = "mnm",
    damping: float = 0.5,
    *,
    iterations: int = 100,
    log_ratio_weight: float = 1.0,
    temperature: float = 1.0,
    model_class: Callable[[FloatArray], FloatArray] | None = None,
    divergence_limit: float | None = None,
) -> Solution:
    """Alternate damped improvements of policy and model, starting from q = p and a uniform policy.

    Source: P, the exact alternation of the authors' notebook (docs/theory.md, section 4).

    Args:
        p: real dynamics, ``[S, A, S]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        method: ``"mnm"`` maximises the fixed bound, ``"vmbpo"`` the value of r - KL(q||p) in the
            model, ``"q-learning"`` the value of r in the model, which it leaves as it is.
        damping: fraction of each old table kept in an iteration; 0 replaces them outright.
        iterations: number of iterations, at least 1.
        log_ratio_weight: coefficient of log p/q for ``"mnm"``, at least ``gamma``.
        temperature: of the model's best response p exp(V / temperature). 1 is the paper's;
            ``log_ratio_weight / gamma`` is the exact optimum.
        model_class: forces a model into the class that can be represented, as
            ``aggregate_dynamics`` does; applied to ``p`` at first and to every best response.
        divergence_limit: upper limit on KL(q||p), in nats. A model class that puts probability
            where ``p`` has none needs one; the objective is then no longer a bound.

    Returns:
        The final tables and the series over iterations.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    iterations = check_count(iterations, "iterations")
    iterates = alternate(
        p,
        reward,
        gamma,
        method,
        damping,
        iterations=iterations + 1,
        log_ratio_weight=log_ratio_weight,
        temperature=temperature,
        model_class=model_class,
        divergence_limit=divergence_limit,
    )
    reward = check_reward(reward, p)
    before = next(iterates)
    values, objectives, policy_changes, model_changes = [], [], [], []
    for after in iterates:
        values.append(solve_linear_values(p, before.policy, reward, gamma)[0])
        objectives.append(before.objective)
        policy_changes.append(np.abs(after.policy - before.policy).max())
        model_changes.append(np.abs(after.model - before.model).max())
        before = after
    return Solution(
        policy=before.policy,
        greedy_policy=before.greedy_policy,
        model=before.model,
        values=np.array(values),
        objectives=np.array(objectives),
        policy_changes=np.array(policy_changes),
        model_changes=np.array(model_changes),
    )


def alternate(
    p: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    method: Method = "mnm",
    damping: float = 0.5,
    *,
    iterations: int = 100,
    log_ratio_weight: float = 1.0,
    temperature: float = 1.0,
    model_class: Callable[[FloatArray], FloatArray] | None = None,
    divergence_limit: float | None = None,
) -> Iterator[Iterate]:
    """Yield policy and model iteration by iteration; the arguments are those of ``solve``.

    The first iterate is the uniform policy with q = p (or what ``model_class`` makes of p).
    """
    p = check_dynamics(p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))} but is {method!r}.")
    damping = check_fraction(damping, "damping")
    iterations = check_count(iterations, "iterations")
    weight = check_log_ratio_weight(log_ratio_weight, gamma)
    temperature = check_positive(temperature, "temperature")
    limit = math.inf
    if divergence_limit is not None:
        limit = check_positive(divergence_limit, "divergence_limit")

    def represented(dynamics: FloatArray) -> FloatArray:
        if model_class is None:
            return dynamics
        return check_dynamics(model_class(dynamics), "model_class(q)")

    policy = np.full(reward.shape, 1 / reward.shape[1])
    model = represented(p)
    for _ in range(iterations):
        if method == "q-learning":
            step_reward = reward
        else:
            if limit == math.inf:
                check_model(model, p)
            divergence = np.minimum(relative_entropy(model, p), limit)
            if method == "mnm":
                step_reward = fixed_discount_reward(reward, divergence, gamma, weight)
            else:
                step_reward = reward - divergence
        objective, action_values = solve_linear_values(model, policy, step_reward, gamma)
        scale = reward.max() if method == "q-learning" else 1.0  # ties are told by an absolute unit
        greedy = greedy_policy(action_values / scale)
        yield Iterate(policy, model, objective, greedy)
        policy = damping * policy + (1 - damping) * greedy
        if method != "q-learning":
            best_response = represented(tilt(p, objective / temperature))
            model = damping * model + (1 - damping) * best_response
