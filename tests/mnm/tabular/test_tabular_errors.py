"""Bad input raises ValueError in one sentence that names the argument and the offending index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mnm.tabular import (
    aggregate_dynamics,
    finite_horizon_bound,
    finite_horizon_value,
    fixed_discount_bound,
    gridworld,
    learned_stopping_bound,
    learning_curves,
    line_world,
    model_divergence,
    optimal_policy,
    optimistic_dynamics,
    policy_value,
    solve,
    tight_dynamics_and_stopping,
    tightest_fixed_dynamics,
    time_marginal_bound,
    vmbpo_objective,
)

P = np.array([[[1.0, 0.0], [0.2, 0.8]], [[0.0, 1.0], [0.8, 0.2]]])
GOOD: dict[str, Any] = {
    "p": P,
    "q": P,
    "policy": np.full((2, 2), 0.5),
    "reward": np.ones((2, 2)),
    "stop": np.full((2, 2), 0.5),
    "value": np.zeros(2),
    "gamma": 0.9,
    "start": 0,
    "horizon": 5,
    "log_ratio_weight": 1.0,
    "temperature": 1.0,
}
TAKES: dict[Callable[..., Any], tuple[str, ...]] = {
    policy_value: ("p", "policy", "reward", "gamma"),
    finite_horizon_value: ("p", "policy", "reward", "gamma", "start", "horizon"),
    optimal_policy: ("p", "reward", "gamma"),
    fixed_discount_bound: ("p", "q", "policy", "reward", "gamma", "log_ratio_weight"),
    learned_stopping_bound: ("p", "q", "stop", "policy", "reward", "gamma"),
    time_marginal_bound: ("p", "q", "policy", "reward", "gamma", "start", "horizon"),
    finite_horizon_bound: ("p", "q", "policy", "reward", "gamma", "start", "horizon"),
    vmbpo_objective: ("p", "q", "policy", "reward", "gamma"),
    model_divergence: ("q", "p"),
    optimistic_dynamics: ("p", "value", "temperature"),
    tight_dynamics_and_stopping: ("p", "policy", "reward", "gamma"),
    tightest_fixed_dynamics: ("p", "policy", "reward", "gamma", "log_ratio_weight"),
    solve: ("p", "reward", "gamma"),
}


def changed(table: np.ndarray, index: tuple[int, ...], entry: float) -> np.ndarray:
    table = np.array(table, dtype=float)
    table[index] = entry
    return table


BAD: list[tuple[str, Any, str]] = [
    ("p", P[0], r"p must have shape \[S, A, S\] but has shape \(2, 2\)\."),
    ("p", np.ones((2, 2, 3)) / 3, r"p must have shape \[S, A, S\] but has shape \(2, 2, 3\)\."),
    ("p", "rain", r"p must be an array of numbers \("),
    ("p", changed(P, (1, 0, 1), 0.9), r"p\[1, 0\] must sum to 1 but sums to 0\.9\."),
    ("p", changed(P, (0, 1, 0), -0.2), r"p\[0, 1, 0\] must be a finite, non-negative probability"),
    ("p", changed(P, (0, 1, 1), np.nan), r"p\[0, 1, 1\] .* but is nan\."),
    ("q", np.ones((3, 2, 3)) / 3, r"q must have shape \(2, 2, 2\) to match p but has shape"),
    ("q", changed(P, (1, 1, 0), 0.7), r"q\[1, 1\] must sum to 1 but sums to 0\.9\."),
    ("q", np.full((2, 2, 2), 0.5), r"q\[0, 0, 1\] must be 0 where p is 0 .* but is 0\.5\."),
    ("policy", np.full((2, 3), 1 / 3), r"policy must have shape \(2, 2\) to match p"),
    ("policy", [[0.5, 0.5], [0.5, 0.6]], r"policy\[1\] must sum to 1 but sums to 1\.1\."),
    ("policy", [[1.5, -0.5], [1, 0]], r"policy\[0, 1\] must be a finite, non-negative prob"),
    ("reward", np.ones(2), r"reward must have shape \(2, 2\) to match p"),
    ("reward", [[1, 1], [0, 1]], r"reward\[1, 0\] must be finite and greater than 0 but is 0\."),
    ("reward", [[1, -3], [1, 1]], r"reward\[0, 1\] .* but is -3\."),
    ("reward", [[1, np.inf], [1, 1]], r"reward\[0, 1\] .* but is inf\."),
    ("stop", np.ones((1, 2)), r"stop must have shape \(2, 2\) to match p"),
    ("stop", [[0.5, 0], [1, 1]], r"stop\[0, 1\] must be greater than 0 and at most 1 but is 0\."),
    ("stop", [[0.5, 0.5], [1.1, 1]], r"stop\[1, 0\] .* but is 1\.1\."),
    ("value", [0.0, 1.0, 2.0], r"value must have shape \(2,\) to match p"),
    ("value", [0.0, np.nan], r"value\[1\] must be finite but is nan\."),
    ("gamma", 1.0, r"gamma must lie strictly between 0 and 1 but is 1\.0\."),
    ("gamma", 0.0, r"gamma must lie strictly between 0 and 1 but is 0\.0\."),
    ("gamma", float("nan"), r"gamma must lie strictly between 0 and 1 but is nan\."),
    ("start", 2, r"start must be a state from 0 to 1 but is 2\.0\."),
    ("start", 0.5, r"start must be a state from 0 to 1 but is 0\.5\."),
    ("start", float("nan"), r"start must be a state from 0 to 1 but is nan\."),
    ("start", [0.5, 0.4], r"start must sum to 1 but sums to 0\.9\."),
    ("start", [1.5, -0.5], r"start\[1\] must be a finite, non-negative probability"),
    ("start", [1.0], r"start must have shape \(2,\) to match p"),
    ("horizon", 0, r"horizon must be a whole number of at least 1 but is 0\."),
    ("horizon", 2.5, r"horizon must be a whole number of at least 1 but is 2\.5\."),
    ("horizon", float("inf"), r"horizon must be a whole number of at least 1 but is inf\."),
    ("log_ratio_weight", 0.89, r"log_ratio_weight must be at least gamma = 0\.9 .* is 0\.89\."),
    ("log_ratio_weight", float("inf"), r"log_ratio_weight must be at least gamma"),
    ("temperature", 0.0, r"temperature must be finite and greater than 0 but is 0\.0\."),
]
CASES = [
    pytest.param(function, name, bad, message, id=f"{function.__name__}-{name}-{number}")
    for function, names in TAKES.items()
    for number, (name, bad, message) in enumerate(BAD)
    if name in names
]


@pytest.mark.parametrize(("function", "name", "bad", "message"), CASES)
def test_bad_argument_is_named(
    function: Callable[..., Any], name: str, bad: Any, message: str
) -> None:
    arguments = {key: GOOD[key] for key in TAKES[function]}
    function(**arguments)
    with pytest.raises(ValueError, match=message) as raised:
        function(**{**arguments, name: bad})
    sentence = str(raised.value)
    assert sentence.startswith(name)
    assert sentence.endswith(".")


def grid(**changes: Any) -> Any:
    return gridworld(
        **{"rows": 3, "columns": 4, "start": (0, 0), "goal": (2, 3), "walls": [(1, 1)], **changes}
    )


def line(**changes: Any) -> Any:
    return line_world(**{"rewards": [1.0, 2.0], "start": 0, "slips": {1: 0.5}, **changes})


def planned(**changes: Any) -> Any:
    return solve(P, np.ones((2, 2)), 0.9, **{"iterations": 2, **changes})


def aliased(**changes: Any) -> Any:
    return aggregate_dynamics(
        **{"p": gridworld(2, 2, start=(0, 0), goal=(1, 1)).dynamics, "block": 2, **changes}
    )


def learned(**changes: Any) -> Any:
    small: dict[str, Any] = {"seeds": 1, "iterations": 2, "episode_length": 3, "start": 0}
    return learning_curves(P, np.ones((2, 2)), 0.9, **{**small, **changes})


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        (grid, {"rows": 0}, r"^rows must be a whole number of at least 1 but is 0\.$"),
        (grid, {"columns": 2.5}, r"^columns must be a whole number"),
        (grid, {"start": (3, 0)}, r"^start must lie on the 3 x 4 grid but is \(row 3, column 0\)"),
        (grid, {"goal": (0, 4)}, r"^goal must lie on the 3 x 4 grid but is \(row 0, column 4\)"),
        (grid, {"goal": (1, 1)}, r"^goal must not be a wall but is \(1, 1\)\.$"),
        (grid, {"walls": [(1, 1), (-1, 0)]}, r"^walls\[1\] must lie on the 3 x 4 grid"),
        (grid, {"step_reward": 0.0}, r"^step_reward must be finite and greater than 0"),
        (grid, {"goal_reward": -1.0}, r"^goal_reward must be finite and greater than 0"),
        (grid, {"noise": 1.5}, r"^noise must lie between 0 and 1 but is 1\.5\.$"),
        (line, {"rewards": []}, r"^len\(rewards\) must be a whole number of at least 1"),
        (line, {"rewards": [1.0, 0.0]}, r"^rewards\[1\] must be finite and greater than 0"),
        (line, {"start": 2}, r"^start must lie on the 1 x 2 grid"),
        (line, {"slips": {5: 0.5}}, r"^slips must lie on the 1 x 2 grid but is \(row 0, column 5"),
        (line, {"slips": {1: 2.0}}, r"^slips\[1\] must lie between 0 and 1 but is 2\.0\.$"),
        (planned, {"method": "sarsa"}, r"^method must be one of mnm, vmbpo, q-learning but is"),
        (planned, {"damping": 1.2}, r"^damping must lie between 0 and 1 but is 1\.2\.$"),
        (planned, {"iterations": 0}, r"^iterations must be a whole number of at least 1 but is 0"),
        (planned, {"temperature": -1.0}, r"^temperature must be finite and greater than 0"),
        (planned, {"log_ratio_weight": 0.5}, r"^log_ratio_weight must be at least gamma"),
        (planned, {"divergence_limit": 0.0}, r"^divergence_limit must be finite and greater"),
        (planned, {"model_class": lambda q: q / 2}, r"^model_class\(q\)\[0, 0\] must sum to 1"),
        (
            planned,
            {"model_class": lambda q: np.full_like(q, 0.5)},
            r"^q\[0, 0, 1\] must be 0 where p is 0",
        ),
        (aliased, {"block": 0}, r"^block must be a whole number of at least 1 but is 0\.$"),
        (aliased, {"shape": (2, 3)}, r"^shape must be \(rows, columns\) with 4 cells to match p"),
        (aliased, {"p": np.eye(3)[:, None, :]}, r"^shape must be .* with 3 cells .* is \(1, 1\)"),
        (learned, {"start": 7}, r"^start must be a state from 0 to 1 but is 7\.$"),
        (learned, {"start": 0.5}, r"^start must be a state from 0 to 1 but is 0\.5\.$"),
        (learned, {"start": [1.0, 0.0]}, r"^start must be a state from 0 to 1 but is \[1\.0, 0"),
        (learned, {"seeds": 0}, r"^seeds must be a whole number of at least 1"),
        (learned, {"episode_length": 0}, r"^episode_length must be a whole number"),
        (learned, {"evaluate_every": 0}, r"^evaluate_every must be a whole number"),
        (learned, {"exploration": -0.1}, r"^exploration must lie between 0 and 1"),
        (learned, {"step_size": 1.1}, r"^step_size must lie between 0 and 1"),
        (learned, {"methods": ["mnm", "sarsa"]}, r"^methods\[1\] must be one of .* is 'sarsa'"),
        (learned, {"methods": ["mnm", "mnm"]}, r"^methods\[1\] must be one of .* is 'mnm'"),
        (learned, {"initial_values": {"sarsa": 1.0}}, r"^initial_values\['sarsa'\] must name one"),
    ],
)
def test_bad_setting_is_named(
    function: Callable[..., Any], changes: dict[str, Any], message: str
) -> None:
    function()
    with pytest.raises(ValueError, match=message):
        function(**changes)


def test_a_negligible_rounding_of_the_rows_is_accepted() -> None:
    p = P * (1 + 1e-10)
    value = policy_value(p, GOOD["policy"], GOOD["reward"], 0.9)[0]
    np.testing.assert_allclose(value, 10.0, rtol=1e-8)


def test_arguments_are_left_as_they_were() -> None:
    before = {key: np.array(value, copy=True) for key, value in GOOD.items()}
    for function, names in TAKES.items():
        function(**{name: GOOD[name] for name in names})
    for key, value in before.items():
        np.testing.assert_array_equal(GOOD[key], value)
