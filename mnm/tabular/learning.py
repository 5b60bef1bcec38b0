"""Learning online in a stochastic world, all seeds and methods side by side in one set of arrays.

Every iteration acts for one episode, adds its transitions to all the earlier ones, and makes one
pass of temporal-difference learning over the whole collection. Only next states the real dynamics
allow are stored (four on a grid instead of S), so a pass costs a few array operations however much
data there is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnm.tabular.checks import (
    FloatArray,
    check_count,
    check_dynamics,
    check_fraction,
    check_gamma,
    check_reward,
    check_state,
)
from mnm.tabular.solvers import Method
from mnm.tabular.values import greedy_policy, optimal_policy, policy_value, solve_linear_values

IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """True returns of the greedy policies while they are learned.

    Attributes:
        iterations: when the policies were evaluated, ``[evaluations]``.
        returns: for each method, the value of its greedy policy in the real dynamics at the start
            state, ``[seeds, evaluations]``, in units of reward.
        optimum: value of the best policy at the start state.
    """

    iterations: NDArray[np.int64]
    returns: dict[str, FloatArray]
    optimum: float


def learning_curves(
    p: ArrayLike,
    reward: ArrayLike,
    gamma: float,
    start: int,
    *,
    methods: Sequence[Method] = ("mnm", "vmbpo", "q-learning"),
    seeds: int = 5,
    iterations: int = 1501,
    episode_length: int = 200,
    exploration: float = 0.5,
    step_size: float = 1e-2 / 200,
    initial_values: Mapping[str, float] | None = None,
    evaluate_every: int = 20,
    on_iteration: Callable[[int], None] | None = None,
) -> LearningCurves:
    """Learn action values online with MnM, VMBPO and Q-learning.

    Each iteration: the model q is p exp(V), normalised, with V = max_a Q (for Q-learning q = p);
    one episode is drawn from q with a policy that is greedy, or uniform with probability
    ``exploration``; and every transition seen so far pulls Q towards
    step reward + gamma V(next state), where the step reward is (1-gamma) log r - KL for MnM,
    r - KL for VMBPO and r for Q-learning.
    Source: P for the protocol; the batched pass is ours (docs/theory.md, section 5).

    Args:
        p: real dynamics, ``[S, A, S]``.
        reward: positive rewards, ``[S, A]``.
        gamma: discount factor, strictly between 0 and 1.
        start: the state every episode starts in.
        methods: which to run, each once.
        seeds: number of repetitions, numbered from 0.
        iterations: number of episodes per repetition.
        episode_length: steps per episode.
        exploration: probability of a uniformly drawn action.
        step_size: fraction of the way one transition pulls Q in one pass.
        initial_values: what every action value starts at, by method; 0 where a method is missing
            (P). For MnM, whose rewards are mostly negative, 0 is optimistic.
        evaluate_every: iterations between two evaluations, the first of them before learning.
        on_iteration: called with the number of finished iterations, for a progress bar.

    Returns:
        The learning curves.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    reward = check_reward(reward, p)
    gamma = check_gamma(gamma)
    first_state = check_state(start, p)
    for name, count in (
        ("seeds", seeds),
        ("iterations", iterations),
        ("episode_length", episode_length),
        ("evaluate_every", evaluate_every),
    ):
        check_count(count, name)
    check_fraction(exploration, "exploration")
    check_fraction(step_size, "step_size")
    for index, method in enumerate(methods):
        if method not in get_args(Method) or method in methods[:index]:
            raise ValueError(
                f"methods[{index}] must be one of {', '.join(get_args(Method))}, each at most "
                f"once, but is {method!r}."
            )

    for name in initial_values or {}:
        if name not in get_args(Method):
            raise ValueError(
                f"initial_values[{name!r}] must name one of {', '.join(get_args(Method))}."
            )
    first_values = [float((initial_values or {}).get(method, 0.0)) for method in methods]
    learners = _Learners(p, reward, gamma, methods, seeds)
    learners.action_values += np.repeat(first_values, seeds)[:, None, None]
    evaluated = np.arange(0, iterations, evaluate_every)
    returns = np.empty((len(methods) * seeds, len(evaluated)))
    for iteration in range(iterations):
        learners.update_model()
        if iteration % evaluate_every == 0:
            returns[:, iteration // evaluate_every] = learners.true_returns(first_state)
        learners.act(first_state, episode_length, exploration)
        learners.learn(step_size)
        if on_iteration is not None:
            on_iteration(iteration + 1)

    best = policy_value(p, optimal_policy(p, reward, gamma), reward, gamma)[0]
    by_method = returns.reshape(len(methods), seeds, len(evaluated))
    return LearningCurves(
        iterations=evaluated,
        returns=dict(zip(methods, by_method, strict=True)),
        optimum=float(best[first_state]),
    )


class _Learners:
    """Action values, models and data of every (method, seed) pair; L of them, side by side.

    K is the largest number of next states any (s, a) has under p; rows with fewer are padded with
    probability zero.
    """

    def __init__(
        self,
        p: FloatArray,
        reward: FloatArray,
        gamma: float,
        methods: Sequence[Method],
        seeds: int,
    ) -> None:
        states, actions, _ = p.shape
        self.p, self.reward, self.gamma = p, reward, gamma
        most_next_states = int((p > 0).sum(axis=2).max())
        self.next_states: IntArray = np.argsort(-p, axis=2, kind="stable")[..., :most_next_states]
        self.probabilities = np.take_along_axis(p, self.next_states, axis=2)
        self.is_optimistic = np.repeat([method != "q-learning" for method in methods], seeds)
        base_reward = {"mnm": (1 - gamma) * np.log(reward), "vmbpo": reward, "q-learning": reward}
        self.base_reward = np.repeat([base_reward[method] for method in methods], seeds, axis=0)
        # The same seed means the same random numbers whatever the method, and however many
        # other methods and seeds run beside it.
        self.generators = [np.random.default_rng(seed) for seed in range(seeds)]
        self.method_count = len(methods)

        learners = len(methods) * seeds
        self.row = np.arange(learners)
        self.action_values = np.zeros((learners, states, actions))
        self.counts = np.zeros((learners, states, actions, most_next_states))
        self.model = np.broadcast_to(self.probabilities, self.counts.shape)
        self.divergence = np.zeros((learners, states, actions))

    def update_model(self) -> None:
        """Set each model to p exp(V), normalised, and the divergence to KL(q || p)."""
        value = self.action_values.max(axis=2)
        log_weight = value[:, self.next_states] * self.is_optimistic[:, None, None, None]
        possible = self.probabilities > 0
        largest = np.where(possible, log_weight, -np.inf).max(axis=3, keepdims=True)
        weights = self.probabilities * np.exp(np.minimum(log_weight - largest, 0.0))
        total = weights.sum(axis=3, keepdims=True)
        self.model = weights / total
        # KL(q || p) = E_q[V(s')] - log E_p[exp V(s')], since log q/p = V - log E_p[exp V].
        self.divergence = np.maximum(
            (self.model * (log_weight - largest)).sum(axis=3) - np.log(total[..., 0]), 0.0
        )

    def act(self, first_state: int, episode_length: int, exploration: float) -> None:
        """Draw one episode per learner from its model and count its transitions."""
        greedy = self.action_values.argmax(axis=2)
        cumulative = self.model.cumsum(axis=3)
        last_choice = cumulative.shape[3] - 1
        draws = np.stack([g.random((episode_length, 3)) for g in self.generators], axis=1)
        draws = np.tile(draws, (1, self.method_count, 1))
        explores = draws[..., 0] < exploration
        random_actions = (draws[..., 1] * self.action_values.shape[2]).astype(int)
        states = np.full(len(self.row), first_state)
        visited = np.empty((3, episode_length, len(self.row)), dtype=np.intp)
        for step in range(episode_length):
            actions = np.where(explores[step], random_actions[step], greedy[self.row, states])
            thresholds = cumulative[self.row, states, actions]
            choices = (thresholds <= draws[step, :, 2, None]).sum(axis=1)
            choices = np.minimum(choices, last_choice)
            visited[:, step] = states, actions, choices
            states = self.next_states[states, actions, choices]
        np.add.at(self.counts, (self.row, *visited), 1.0)

    def learn(self, step_size: float) -> None:
        """One pass over all data: each transition pulls Q a little towards its target.

        n pulls, in a random order, towards targets that hold still during the pass leave, on
        average over the orders, (1 - step_size)^n of the distance to the mean of the targets.
        """
        value = self.action_values.max(axis=2)
        seen = self.counts.sum(axis=3)
        rows = self.row[:, None, None, None]
        next_value = (self.counts * value[rows, self.next_states]).sum(axis=3) / np.maximum(seen, 1)
        target = self.base_reward - self.divergence + self.gamma * next_value
        self.action_values += (1 - (1 - step_size) ** seen) * (target - self.action_values)

    def true_returns(self, first_state: int) -> FloatArray:
        """Value of each greedy policy in the real dynamics at ``first_state``, ``[L]``."""
        returns: FloatArray = np.array(
            [
                solve_linear_values(self.p, greedy_policy(values), self.reward, self.gamma)[0][
                    first_state
                ]
                for values in self.action_values
            ]
        )
        return returns
