"""Tabular MnM: the bounds and the algorithm where everything can be computed exactly.

Arrays are NumPy float64. Dynamics p and models q have shape ``[S, A, S]``, policies, rewards and
stop probabilities ``[S, A]``, values ``[S]``. Rewards are positive, discounts strictly between 0
and 1, bounds in nats and unnormalised by (1 - gamma). The derivations are in docs/theory.md.
"""

from mnm.tabular.bounds import (
    finite_horizon_bound,
    fixed_discount_bound,
    learned_stopping_bound,
    time_marginal_bound,
    vmbpo_objective,
)
from mnm.tabular.dynamics import aggregate_dynamics, model_divergence, optimistic_dynamics
from mnm.tabular.learning import LearningCurves, learning_curves
from mnm.tabular.solvers import Iterate, Method, Solution, alternate, solve
from mnm.tabular.tightest import tight_dynamics_and_stopping, tightest_fixed_dynamics
from mnm.tabular.values import finite_horizon_value, optimal_policy, policy_value
from mnm.tabular.worlds import World, expected_moves, gridworld, line_world

__all__ = [
    "Iterate",
    "LearningCurves",
    "Method",
    "Solution",
    "World",
    "aggregate_dynamics",
    "alternate",
    "expected_moves",
    "finite_horizon_bound",
    "finite_horizon_value",
    "fixed_discount_bound",
    "gridworld",
    "learned_stopping_bound",
    "learning_curves",
    "line_world",
    "model_divergence",
    "optimal_policy",
    "optimistic_dynamics",
    "policy_value",
    "solve",
    "tight_dynamics_and_stopping",
    "tightest_fixed_dynamics",
    "time_marginal_bound",
    "vmbpo_objective",
]
