"""Models of the dynamics: divergence, optimism, aliasing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnm.tabular import aggregate_dynamics, gridworld, model_divergence, optimistic_dynamics

RIGHT, DOWN = 1, 2


def test_divergence_by_hand_and_zero_for_the_real_dynamics() -> None:
    p = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    q = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    np.testing.assert_allclose(model_divergence(q, p), [[math.log(2)], [0.0]])
    np.testing.assert_array_equal(model_divergence(p, p), np.zeros((2, 1)))


def test_optimism_weighs_next_states_by_the_exponential_of_their_value() -> None:
    p = np.array([[[0.5, 0.5]], [[0.75, 0.25]]])
    q = optimistic_dynamics(p, [0.0, math.log(3)])
    np.testing.assert_allclose(q, [[[0.25, 0.75]], [[0.5, 0.5]]])


def test_high_temperature_keeps_the_dynamics_and_low_temperature_picks_the_best_state() -> None:
    p = np.array([[[0.2, 0.3, 0.5]]] * 3)
    value = [5.0, 9.0, 1.0]
    np.testing.assert_allclose(optimistic_dynamics(p, value, 1e9), p, atol=1e-8)
    np.testing.assert_allclose(optimistic_dynamics(p, value, 1e-2)[0, 0], [0, 1, 0], atol=1e-12)


def test_optimism_survives_huge_values_in_states_out_of_reach() -> None:
    p = np.array([[[1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]]])
    q = optimistic_dynamics(p, [-1e6, -1e6, 1e10])
    np.testing.assert_array_equal(q, p)


def test_blocks_of_one_cell_change_nothing() -> None:
    world = gridworld(4, 4, start=(0, 0), goal=(3, 3), walls=[(1, 1)], noise=0.3)
    np.testing.assert_allclose(aggregate_dynamics(world.dynamics, 1), world.dynamics, atol=1e-15)


def test_every_cell_of_a_block_gets_the_average_move_of_the_block() -> None:
    world = gridworld(4, 4, start=(0, 0), goal=(3, 3), walls=[(0, 2)])
    aliased = aggregate_dynamics(world.dynamics, 2)
    # In the top left block only cell (0, 1) is stopped by the wall on its right.
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        state = 4 * row + column
        assert aliased[state, RIGHT, state + 1] == pytest.approx(0.75)
        assert aliased[state, RIGHT, state] == pytest.approx(0.25)


def test_moves_that_would_leave_the_grid_stop_at_its_edge() -> None:
    world = gridworld(3, 3, start=(0, 0), goal=(2, 2))
    aliased = aggregate_dynamics(world.dynamics, 3)
    # Two of three rows can move down, so the bottom row stays for certain and the others mostly go.
    assert aliased[8, DOWN, 8] == pytest.approx(1.0)
    assert aliased[0, DOWN, 3] == pytest.approx(2 / 3)
    np.testing.assert_allclose(aliased.sum(axis=-1), 1.0)


def test_blocks_smaller_than_the_others_at_the_far_edge_of_an_oblong_grid() -> None:
    world = gridworld(2, 5, start=(0, 0), goal=(1, 4))
    aliased = aggregate_dynamics(world.dynamics, 2, shape=(2, 5))
    np.testing.assert_allclose(aliased.sum(axis=-1), 1.0)
    # The last column is a block of its own: moving right always fails there, and only there.
    assert aliased[4, RIGHT, 4] == 1.0
    assert aliased[3, RIGHT, 4] == 1.0
