"""The numbers behind the figures that go beyond the paper; beyond_figures.py draws them.

Four questions: what the coefficient gamma gains, how exact the tight construction is, how much
stays open for a stochastic policy, and what the starting values do to the learning figure. As in
experiments.py, every function returns all that is plotted, as plain numbers and lists. What they
showed is in docs/theory.md.
"""

from __future__ import annotations

import math

import numpy as np

from mnm.tabular import experiments
from mnm.tabular.bounds import (
    fixed_discount_bound,
    learned_stopping_bound,
    time_marginal_bound,
)
from mnm.tabular.checks import FloatArray
from mnm.tabular.dynamics import tilt
from mnm.tabular.experiments import (
    GAMMA,
    ITERATIONS,
    METHODS,
    STOPPING_TIMES,
    Data,
    Progress,
    walled_grid,
)
from mnm.tabular.learning import learning_curves
from mnm.tabular.solvers import alternate
from mnm.tabular.tightest import tight_dynamics_and_stopping, tightest_fixed_dynamics
from mnm.tabular.values import optimal_policy, policy_value
from mnm.tabular.worlds import expected_moves

RANDOM_STATES, RANDOM_ACTIONS, RANDOM_MDPS = 8, 4, 150


def coefficient(seeds: int, progress: Progress) -> Data:
    """How much tighter the fixed bound is with gamma in front of log p/q instead of 1."""
    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    p, reward, start = world.dynamics, world.reward, world.start

    along: dict[str, list[float]] = {"weight_one": [], "weight_gamma": [], "log_return": []}
    for iterate in alternate(p, reward, GAMMA, "mnm", iterations=ITERATIONS + 1):
        q, policy = iterate.model, iterate.policy
        along["weight_one"].append(float(fixed_discount_bound(p, q, policy, reward, GAMMA)[start]))
        along["weight_gamma"].append(
            float(fixed_discount_bound(p, q, policy, reward, GAMMA, GAMMA)[start])
        )
        log_return = np.log(policy_value(p, policy, reward, GAMMA)[0][start])
        along["log_return"].append(float(log_return))
    progress(0.3)

    generator = np.random.default_rng(0)
    scatter: dict[str, list[float]] = {"gamma": [], "gap_one": [], "gap_gamma": []}
    for _ in range(600):
        gamma = float(generator.choice([0.5, 0.8, 0.95]))
        random_p, pay = random_mdp(generator)
        policy = generator.dirichlet(np.ones(RANDOM_ACTIONS), size=RANDOM_STATES)
        q = tilt(random_p, generator.normal(scale=generator.uniform(0, 3), size=random_p.shape))
        log_value = np.log(policy_value(random_p, policy, pay, gamma)[0][0])
        one = fixed_discount_bound(random_p, q, policy, pay, gamma)[0]
        with_gamma = fixed_discount_bound(random_p, q, policy, pay, gamma, gamma)[0]
        scatter["gamma"].append(gamma)
        scatter["gap_one"].append(float(log_value - one))
        scatter["gap_gamma"].append(float(log_value - with_gamma))
    progress(0.6)

    discounts = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99]
    best: dict[str, list[float]] = {"gamma": discounts, "gap_one": [], "gap_gamma": []}
    for done, gamma in enumerate(discounts, start=1):
        policy = optimal_policy(p, reward, gamma)
        log_value = float(np.log(policy_value(p, policy, reward, gamma)[0][start]))
        for name, weight in (("gap_one", 1.0), ("gap_gamma", gamma)):
            q = tightest_fixed_dynamics(p, policy, reward, gamma, weight)
            reached = fixed_discount_bound(p, q, policy, reward, gamma, weight)[start]
            best[name].append(log_value - float(reached))
        progress(0.6 + 0.4 * done / len(discounts))
    return {
        "iterations": list(range(ITERATIONS + 1)),
        "along_the_alternation": along,
        "random_models": scatter,
        "best_models": best,
    }


def tight_bound(seeds: int, progress: Progress) -> Data:
    """Distance to the log return of four bounds, each at its best model, as the grid gets noisy."""
    noises = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    gaps: dict[str, list[float]] = {
        "fixed_weight_one": [],
        "fixed_weight_gamma": [],
        "time_marginal": [],
        "tight": [],
    }
    for done, noise in enumerate(noises, start=1):
        world = walled_grid(step_reward=1.0, goal_reward=10.0, noise=noise)
        p, reward, start = world.dynamics, world.reward, world.start
        policy = optimal_policy(p, reward, GAMMA)
        log_value = float(np.log(policy_value(p, policy, reward, GAMMA)[0][start]))
        for name, weight in (("fixed_weight_one", 1.0), ("fixed_weight_gamma", GAMMA)):
            q = tightest_fixed_dynamics(p, policy, reward, GAMMA, weight)
            reached = fixed_discount_bound(p, q, policy, reward, GAMMA, weight)[start]
            gaps[name].append(log_value - float(reached))
        # At the model that is best for weight gamma, the last one found.
        by_time = time_marginal_bound(p, q, policy, reward, GAMMA, start, STOPPING_TIMES)
        gaps["time_marginal"].append(log_value - by_time)
        q, stop = tight_dynamics_and_stopping(p, policy, reward, GAMMA)
        tight = learned_stopping_bound(p, q, stop, policy, reward, GAMMA)[start]
        gaps["tight"].append(log_value - float(tight))
        progress(done / (len(noises) + 1))

    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    policy = optimal_policy(world.dynamics, world.reward, GAMMA)
    q, stop = tight_dynamics_and_stopping(world.dynamics, policy, world.reward, GAMMA)
    chosen = policy.argmax(axis=1)
    states = np.arange(len(chosen))
    progress(1.0)
    return {
        "noise": noises,
        "gap": gaps,
        "walls": world.walls.tolist(),
        "start": list(divmod(world.start, world.shape[1])),
        "goal": list(divmod(world.goal, world.shape[1])),
        "stop": stop[states, chosen].reshape(world.shape).tolist(),
        "extra_drift": (
            expected_moves(q, world.shape)[states, chosen]
            - expected_moves(world.dynamics, world.shape)[states, chosen]
        ).tolist(),
    }


def entropy_gap(seeds: int, progress: Progress) -> Data:
    """How far the best bound stays from the log return of stochastic policies on random MDPs."""
    generator = np.random.default_rng(0)
    fractions = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    shape = (RANDOM_MDPS, len(fractions))
    kinds = ("random", "boltzmann")
    gaps = {
        kind: {name: np.empty(shape) for name in ("fixed", "from_values", "tightest")}
        for kind in kinds
    }
    for number in range(RANDOM_MDPS):
        p, reward = random_mdp(generator)
        best_values = policy_value(p, optimal_policy(p, reward, GAMMA), reward, GAMMA)[1]
        scores = {"random": generator.normal(size=reward.shape), "boltzmann": best_values}
        for kind in kinds:
            for index, fraction in enumerate(fractions):
                policy = policy_with_entropy(scores[kind], fraction * math.log(RANDOM_ACTIONS))
                for name, gap in _gaps_of_best_bounds(p, policy, reward).items():
                    gaps[kind][name][number, index] = gap
        progress((number + 1) / RANDOM_MDPS)
    return {
        "entropy": [fraction * math.log(RANDOM_ACTIONS) for fraction in fractions],
        "mdps": RANDOM_MDPS,
        "gap": {
            kind: {name: _quantiles(table) for name, table in by_bound.items()}
            for kind, by_bound in gaps.items()
        },
    }


def initial_values(seeds: int, progress: Progress) -> Data:
    """The learning experiment again, all methods starting alike: low, then high."""
    step_reward, goal_reward = 0.001, 10.0
    world = walled_grid(step_reward, goal_reward)
    starts = {"pessimistic": step_reward, "optimistic": goal_reward}
    finished = 0

    def count(_: int) -> None:
        nonlocal finished
        finished += 1
        progress(finished / (experiments.LEARNING_ITERATIONS * len(starts)))

    data: Data = {}
    for name, reward in starts.items():
        # The value of being paid this reward for ever, in the units of each method.
        for_ever = reward / (1 - GAMMA)
        values = {"mnm": math.log(reward), "vmbpo": for_ever, "q-learning": for_ever}
        curves = learning_curves(
            world.dynamics,
            world.reward,
            GAMMA,
            world.start,
            methods=METHODS,
            seeds=seeds,
            iterations=experiments.LEARNING_ITERATIONS,
            initial_values=values,
            on_iteration=count,
        )
        data["iterations"] = curves.iterations.tolist()
        data["optimum"] = curves.optimum
        data[name] = {
            "initial_values": values,
            "returns": {method: returns.tolist() for method, returns in curves.returns.items()},
        }
    return data


def random_mdp(generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Dynamics with uniformly drawn rows, and rewards log-uniform between 0.01 and 100."""
    p = generator.dirichlet(np.ones(RANDOM_STATES), size=(RANDOM_STATES, RANDOM_ACTIONS))
    reward = 10.0 ** generator.uniform(-2, 2, size=(RANDOM_STATES, RANDOM_ACTIONS))
    return p, reward


def policy_with_entropy(scores: FloatArray, entropy: float) -> FloatArray:
    """softmax(scores / T), with the one T that gives this entropy on average over states.

    Args:
        scores: ``[S, A]``, no two equal in a row.
        entropy: in nats, from 0 (the best action for sure) to log A (uniform).

    Returns:
        Action probabilities, ``[S, A]``.
    """
    states, actions = scores.shape
    centred = scores - scores.max(axis=1, keepdims=True)
    if entropy <= 0:
        return np.asarray(centred == 0, dtype=np.float64)
    if entropy >= math.log(actions):
        return np.full((states, actions), 1 / actions)
    lowest, highest = -20.0, 20.0
    for _ in range(60):
        middle = (lowest + highest) / 2
        policy: FloatArray = np.exp(centred / math.exp(middle))
        policy /= policy.sum(axis=1, keepdims=True)
        plogp = policy * np.log(np.where(policy > 0, policy, 1.0))
        if -plogp.sum(axis=1).mean() < entropy:
            lowest = middle
        else:
            highest = middle
    return policy


def _gaps_of_best_bounds(p: FloatArray, policy: FloatArray, reward: FloatArray) -> dict[str, float]:
    """Mean over states of log V minus three bounds, each with its own model."""
    value, action_values = policy_value(p, policy, reward, GAMMA)
    q = tightest_fixed_dynamics(p, policy, reward, GAMMA, GAMMA)
    bounds = {"fixed": fixed_discount_bound(p, q, policy, reward, GAMMA, GAMMA)}
    bounds["from_values"] = learned_stopping_bound(
        p, tilt(p, np.log(value)), reward / action_values, policy, reward, GAMMA
    )
    q, stop = tight_dynamics_and_stopping(p, policy, reward, GAMMA)
    bounds["tightest"] = learned_stopping_bound(p, q, stop, policy, reward, GAMMA)
    return {name: float((np.log(value) - lower).mean()) for name, lower in bounds.items()}


def _quantiles(table: FloatArray) -> dict[str, list[float]]:
    low, median, high = np.quantile(table, [0.1, 0.5, 0.9], axis=0)
    return {
        "tenth": low.tolist(),
        "median": median.tolist(),
        "ninetieth": high.tolist(),
        "mean": table.mean(axis=0).tolist(),
        "largest": table.max(axis=0).tolist(),
    }
