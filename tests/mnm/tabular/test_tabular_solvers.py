"""Planning with known dynamics: the paper's exact experiments, and what solve promises."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mnm.tabular import (
    alternate,
    fixed_discount_bound,
    gridworld,
    line_world,
    optimal_policy,
    policy_value,
    solve,
)
from mnm.tabular.experiments import (
    Data,
    bound,
    inaccurate_model,
    optimism,
    risk,
    walled_grid,
)


def run(experiment: object) -> Data:
    progress: list[float] = []
    data: Data = experiment(1, progress.append)  # type: ignore[operator]
    assert progress[-1] == pytest.approx(1.0)
    return data


def test_risk_mnm_and_q_learning_stay_safe_and_vmbpo_does_not() -> None:
    data = run(risk)
    assert data["final_true_value"]["q-learning"] == pytest.approx(451.0, abs=1e-6)
    assert data["final_true_value"]["mnm"] == pytest.approx(451.0, abs=1e-6)
    assert data["final_true_value"]["vmbpo"] == pytest.approx(320.345, abs=5e-4)
    # And it believes more than the truth, even more than the safe side pays.
    assert data["objectives"]["vmbpo"][-1] > 451.0


def test_bound_figure_is_ordered_at_every_iteration() -> None:
    data = run(bound)
    curves = [np.array(data[name]) for name in ("fixed", "learned_stopping", "log_return", "vmbpo")]
    for lower, higher in pairwise(curves):
        assert (lower <= higher + 1e-9).all()
    assert len(curves[0]) == 41
    for curve in curves:
        assert abs(curve[20] - curve[-1]) < 1e-5  # converged in about 20
    assert curves[0][-1] == pytest.approx(2.34044, abs=1e-5)
    assert curves[1][-1] == pytest.approx(2.36468, abs=1e-5)
    assert curves[2][-1] == pytest.approx(2.41947, abs=1e-5)
    assert curves[3][-1] == pytest.approx(2.46600, abs=1e-5)


def test_vmbpo_on_its_own_alternation_ends_elsewhere() -> None:
    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    solution = solve(world.dynamics, world.reward, 0.9, "vmbpo")
    assert np.log(solution.objectives[-1, world.start]) == pytest.approx(2.833, abs=1e-3)


def test_optimistic_model_drifts_towards_the_goal() -> None:
    data = run(optimism)
    walls = np.array(data["walls"])
    goal = np.array(data["goal"])
    moves = np.array(data["model_drift"]).reshape(*walls.shape, 2)
    real = np.array(data["real_drift"]).reshape(*walls.shape, 2)
    # Right of the wall nothing is in the way: every cell drifts up and right, if it can.
    cells = [(row, column) for row in range(1, 10) for column in range(6, 9)]
    for cell in cells:
        towards = (goal - cell) / np.linalg.norm(goal - cell)
        assert moves[cell] @ towards > real[cell] @ towards + 0.1
    # Under the wall it leads to the right, to get round.
    assert (moves[6, :6, 1] > 0.2).all()
    assert data["last_model_change"] < 1e-8


def test_aliased_model_reaches_the_goal_only_with_the_classifier_term() -> None:
    agents = run(inaccurate_model)["agents"]
    reached = {name: agent["reaches_goal"] for name, agent in agents.items()}
    assert reached == {
        "mnm": True,
        "mnm, aliased model": True,
        "no classifier term, aliased model": False,
    }
    # Stuck means on bare ground for ever: 1 / (1 - 0.9).
    stuck = agents["no classifier term, aliased model"]
    assert stuck["true_value"] == pytest.approx(10.0)
    assert stuck["path"][-1] == [0, 6]
    assert agents["mnm"]["true_value"] > agents["mnm, aliased model"]["true_value"] > 60


def test_q_learning_finds_the_optimum_and_leaves_the_model_alone() -> None:
    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    solution = solve(world.dynamics, world.reward, 0.9, "q-learning", damping=0.0, iterations=50)
    best = policy_value(
        world.dynamics, optimal_policy(world.dynamics, world.reward, 0.9), world.reward, 0.9
    )[0]
    np.testing.assert_allclose(solution.values[-1], best)
    np.testing.assert_array_equal(solution.model, world.dynamics)
    assert solution.model_changes.max() == 0.0
    np.testing.assert_allclose(solution.objectives, solution.values)


def test_series_describe_the_tables_they_claim_to() -> None:
    world = gridworld(3, 3, start=(0, 0), goal=(2, 2), noise=0.3)
    solution = solve(world.dynamics, world.reward, 0.9, "mnm", iterations=7)
    steps = list(alternate(world.dynamics, world.reward, 0.9, "mnm", iterations=8))
    assert solution.values.shape == solution.objectives.shape == (7, 9)
    for index, step in enumerate(steps[:-1]):
        value = policy_value(world.dynamics, step.policy, world.reward, 0.9)[0]
        bound = fixed_discount_bound(world.dynamics, step.model, step.policy, world.reward, 0.9)
        np.testing.assert_allclose(solution.values[index], value)
        np.testing.assert_allclose(solution.objectives[index], bound)
        after = steps[index + 1]
        assert solution.policy_changes[index] == np.abs(after.policy - step.policy).max()
        assert solution.model_changes[index] == np.abs(after.model - step.model).max()
    np.testing.assert_array_equal(solution.policy, steps[-1].policy)
    np.testing.assert_array_equal(solution.model, steps[-1].model)


def test_alternation_starts_uniform_in_the_real_dynamics_and_is_damped() -> None:
    world = gridworld(3, 3, start=(0, 0), goal=(2, 2), noise=0.3)
    first, second = alternate(world.dynamics, world.reward, 0.9, damping=0.75, iterations=2)
    np.testing.assert_array_equal(first.model, world.dynamics)
    np.testing.assert_array_equal(first.policy, np.full((9, 4), 0.25))
    np.testing.assert_allclose(second.policy, 0.75 * 0.25 + 0.25 * first.greedy_policy)


def test_exact_temperature_reaches_at_least_the_bound_of_the_papers() -> None:
    world = walled_grid(step_reward=1.0, goal_reward=10.0)
    arguments = (world.dynamics, world.reward, 0.9)
    paper = solve(*arguments).objectives[-1, world.start]
    exact = solve(*arguments, temperature=1 / 0.9).objectives[-1, world.start]
    tighter = solve(*arguments, log_ratio_weight=0.9).objectives[-1, world.start]
    assert paper < exact < tighter


def test_fixed_bound_rises_when_nothing_is_damped_away() -> None:
    """At the exact temperature, with the policy at its limit, the alternation only climbs."""
    world = line_world([50.0, 1.0, 51.0], start=1, slips={2: 0.5})
    solution = solve(world.dynamics, world.reward, 0.9, temperature=1 / 0.9, iterations=60)
    late = solution.objectives[20:, world.start]
    assert (np.diff(late) >= -1e-9).all()
