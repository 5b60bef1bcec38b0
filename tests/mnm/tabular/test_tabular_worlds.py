"""The worlds: where moves lead, what they pay, what noise does."""

from __future__ import annotations

import numpy as np
import pytest

from mnm.tabular import expected_moves, gridworld, line_world, policy_value

UP, RIGHT, DOWN, LEFT, STAY = range(5)


def test_moves_go_where_they_should_and_walls_and_edges_stop_them() -> None:
    world = gridworld(3, 4, start=(0, 0), goal=(2, 3), walls=[(1, 1)])
    destination = world.dynamics.argmax(axis=2)
    centre = 1 * 4 + 2
    np.testing.assert_array_equal(destination[centre], [2, 7, 10, centre])  # a wall on the left
    np.testing.assert_array_equal(destination[0], [0, 1, 4, 0])  # the top left corner
    assert set(np.unique(world.dynamics)) == {0.0, 1.0}
    assert world.shape == (3, 4)
    assert (world.start, world.goal) == (0, 11)


def test_only_the_goal_pays_and_does_not_absorb() -> None:
    world = gridworld(2, 2, start=(0, 0), goal=(1, 1), step_reward=0.5, goal_reward=7.0)
    np.testing.assert_array_equal(world.reward[:3], np.full((3, 4), 0.5))
    np.testing.assert_array_equal(world.reward[3], [7.0] * 4)
    assert world.dynamics[3, LEFT, 2] == 1.0


def test_noise_replaces_the_action_by_a_uniform_one() -> None:
    world = gridworld(3, 3, start=(0, 0), goal=(2, 2), noise=0.4)
    np.testing.assert_allclose(world.dynamics[4, RIGHT, [1, 5, 7, 3]], [0.1, 0.7, 0.1, 0.1])
    np.testing.assert_allclose(world.dynamics[0, RIGHT, [0, 1, 3]], [0.2, 0.7, 0.1])


def test_fifth_action_stays() -> None:
    world = gridworld(2, 3, start=(0, 0), goal=(1, 2), stay_action=True)
    np.testing.assert_array_equal(world.dynamics[:, STAY], np.eye(6))


def test_line_slips_left_whatever_the_action() -> None:
    world = line_world([50.0, 1.0, 51.0], start=1, slips={2: 0.5})
    np.testing.assert_allclose(world.dynamics[2, RIGHT], [0, 0.5, 0.5])
    np.testing.assert_allclose(world.dynamics[2, LEFT], [0, 1, 0])
    np.testing.assert_allclose(world.dynamics[1, RIGHT], [0, 0, 1])
    np.testing.assert_array_equal(world.reward[:, 0], [50, 1, 51])
    assert (world.start, world.goal) == (1, 2)


def test_the_two_sides_of_the_risk_world_are_worth_what_the_paper_says() -> None:
    world = line_world([50.0, 1.0, 51.0], start=1, slips={2: 0.5})
    for action, expected in ((LEFT, 451.0), (RIGHT, 320.3448275862069)):
        policy = np.eye(4)[[action] * 3]
        value = policy_value(world.dynamics, policy, world.reward, 0.9)[0]
        assert value[world.start] == pytest.approx(expected, abs=1e-9)


def test_expected_moves_are_in_rows_and_columns() -> None:
    world = gridworld(3, 3, start=(0, 0), goal=(2, 2))
    moves = expected_moves(world.dynamics, world.shape)
    np.testing.assert_array_equal(moves[4], [[-1, 0], [0, 1], [1, 0], [0, -1]])
    np.testing.assert_array_equal(moves[0, UP], [0, 0])
