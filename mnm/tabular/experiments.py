"""The numbers behind the paper's five tabular figures; figures.py draws them.

Every function returns a dictionary of plain numbers, strings and nested lists: all that is plotted
and nothing that is not in ``figures.json``. Protocols: the authors' notebook (P), in our own words
and code; what they showed is in docs/theory.md, section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mnm.tabular.bounds import fixed_discount_bound, time_marginal_bound, vmbpo_objective
from mnm.tabular.checks import FloatArray
from mnm.tabular.dynamics import aggregate_dynamics
from mnm.tabular.learning import learning_curves
from mnm.tabular.solvers import Method, Solution, alternate, solve
from mnm.tabular.values import policy_value
from mnm.tabular.worlds import World, expected_moves, gridworld, line_world

GAMMA = 0.9
ITERATIONS = 40
LEARNING_ITERATIONS = 1501
STOPPING_TIMES = 1000
METHODS: tuple[Method, ...] = ("mnm", "vmbpo", "q-learning")

Data = dict[str, Any]
Progress = Callable[[float], None]


def walled_grid(step_reward: float, goal_reward: float, noise: float = 0.5) -> World:
    """The 10 x 10 grid of the paper: a wall two cells thick hangs between start and goal."""
    return gridworld(
        10,
        10,
        start=(0, 0),
        goal=(0, 9),
        walls=[(row, column) for row in range(6) for column in (4, 5)],
        step_reward=step_reward,
        goal_reward=goal_reward,
        noise=noise,
    )


def learning(seeds: int, progress: Progress) -> Data:
    """Figure 2a, left: returns while learning online in the stochastic grid."""
    world = walled_grid(step_reward=0.001, goal_reward=10.0)
    curves = learning_curves(
        world.dynamics,
        world.reward,
        GAMMA,
        world.start,
        methods=METHODS,
        seeds=seeds,
        iterations=LEARNING_ITERATIONS,
        on_iteration=lambda done: progress(done / LEARNING_ITERATIONS),
    )
    last = {method: returns[:, -1] / curves.optimum for method, returns in curves.returns.items()}
    return {
        "iterations": curves.iterations.tolist(),
        "returns": {method: returns.tolist() for method, returns in curves.returns.items()},
        "optimum": curves.optimum,
        "final_fraction_of_optimum": {method: final.tolist() for method, final in last.items()},
    }


def optimism(seeds: int, progress: Progress) -> Data:
    """Figure 2a, right: how the exact best model bends the moves of the same grid to the goal."""
    world = walled_grid(step_reward=1e-5, goal_reward=1e9)
    solution = solve(world.dynamics, world.reward, GAMMA, "mnm", iterations=ITERATIONS)
    progress(1.0)
    return {
        **_layout(world),
        # Averaged over the actions, so that what is left is the doing of the dynamics alone.
        "real_drift": expected_moves(world.dynamics, world.shape).mean(axis=1).tolist(),
        "model_drift": expected_moves(solution.model, world.shape).mean(axis=1).tolist(),
        "last_model_change": float(solution.model_changes[-1]),
    }


def inaccurate_model(seeds: int, progress: Progress) -> Data:
    """Figure 2b: planning with a model that confuses the cells of every 3 x 3 block."""
    world = gridworld(
        15,
        15,
        start=(0, 0),
        goal=(2, 12),
        walls=[(row, 7) for row in range(8)],
        step_reward=1.0,
        goal_reward=100.0,
        stay_action=True,
    )
    aliased = partial(aggregate_dynamics, block=3, shape=world.shape)
    plan = partial(solve, world.dynamics, world.reward, GAMMA, iterations=20, divergence_limit=5.0)
    runs: dict[str, Callable[[], Solution]] = {
        "mnm": partial(plan, method="mnm"),
        "mnm, aliased model": partial(plan, method="mnm", model_class=aliased),
        "no classifier term, aliased model": partial(
            plan, method="q-learning", model_class=aliased
        ),
    }
    agents = {}
    for done, (name, run) in enumerate(runs.items(), start=1):
        policy = run().greedy_policy
        path = _path(world, policy, steps=60)
        agents[name] = {
            "true_value": float(
                policy_value(world.dynamics, policy, world.reward, GAMMA)[0][world.start]
            ),
            "reaches_goal": world.goal in path,
            "path": [list(divmod(state, world.shape[1])) for state in path],
        }
        progress(done / len(runs))
    return {**_layout(world), "agents": agents}


def risk(seeds: int, progress: Progress) -> Data:
    """Figure 3a: a choice between a safe cell and one that pays a little more until it slips."""
    world = line_world([50.0, 1.0, 51.0], start=1, slips={2: 0.5})
    data: Data = {"true_values": {}, "objectives": {}, "final_true_value": {}}
    for done, method in enumerate(METHODS, start=1):
        # Enough iterations for the damped policy to be its limit to the last digit.
        solution = solve(world.dynamics, world.reward, GAMMA, method, iterations=60)
        data["true_values"][method] = solution.values[:, world.start].tolist()
        data["objectives"][method] = solution.objectives[:, world.start].tolist()
        data["final_true_value"][method] = float(solution.values[-1, world.start])
        progress(done / len(METHODS))
    return data


def bound(seeds: int, progress: Progress) -> Data:
    """Figure 3b: two lower bounds, the log return and VMBPO's objective, while MnM plans."""
    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    p, reward, start = world.dynamics, world.reward, world.start
    series: dict[str, list[float]] = {
        "fixed": [],
        "learned_stopping": [],
        "log_return": [],
        "vmbpo": [],
    }
    iterates = alternate(p, reward, GAMMA, "mnm", iterations=ITERATIONS + 1)
    for done, iterate in enumerate(iterates):
        q, policy = iterate.model, iterate.policy
        stopping = time_marginal_bound(p, q, policy, reward, GAMMA, start, STOPPING_TIMES)
        log_return = np.log(policy_value(p, policy, reward, GAMMA)[0][start])
        vmbpo = np.log(vmbpo_objective(p, q, policy, reward, GAMMA)[start])
        series["fixed"].append(float(fixed_discount_bound(p, q, policy, reward, GAMMA)[start]))
        series["learned_stopping"].append(stopping)
        series["log_return"].append(float(log_return))
        series["vmbpo"].append(float(vmbpo))
        progress(done / ITERATIONS)
    return {"iterations": list(range(ITERATIONS + 1)), **series}


def _layout(world: World) -> Data:
    columns = world.shape[1]
    return {
        "walls": world.walls.tolist(),
        "start": list(divmod(world.start, columns)),
        "goal": list(divmod(world.goal, columns)),
    }


def _path(world: World, policy: FloatArray, steps: int) -> list[int]:
    """States visited in the real world, following the likeliest moves, until it stays put."""
    path = [world.start]
    for _ in range(steps):
        state = path[-1]
        path.append(int(world.dynamics[state, policy[state].argmax()].argmax()))
        if path[-1] == state:
            break
    return path
