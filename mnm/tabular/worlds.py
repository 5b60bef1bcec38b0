"""Small worlds to solve exactly: grids with walls, and a line of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnm.tabular.checks import FloatArray, check_count, check_fraction, check_positive

UP, RIGHT, DOWN, LEFT, STAY = range(5)
MOVES = np.array([[-1, 0], [0, 1], [1, 0], [0, -1], [0, 0]])

Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class World:
    """A finite world laid out on a grid; state number ``row * columns + column``.

    Attributes:
        dynamics: p, ``[S, A, S]``.
        reward: ``[S, A]``; depends on the state occupied only.
        walls: ``[rows, columns]``, True where there is a wall. Walls are states nothing moves into.
        start: number of the start state.
        goal: number of the best-paid state.
    """

    dynamics: FloatArray
    reward: FloatArray
    walls: NDArray[np.bool_]
    start: int
    goal: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.walls.shape[0], self.walls.shape[1]


def gridworld(
    rows: int,
    columns: int,
    *,
    start: Cell,
    goal: Cell,
    walls: Sequence[Cell] = (),
    step_reward: float = 1.0,
    goal_reward: float = 10.0,
    noise: float = 0.0,
    stay_action: bool = False,
) -> World:
    """A grid with actions up, right, down and left (and stay), in that order.

    A move off the grid or into a wall stays put. The goal pays at every step spent there and is
    not absorbing. Source: the worlds of the authors' notebook (P), in our own construction.

    Args:
        rows: height of the grid, in cells.
        columns: width of the grid, in cells.
        start: (row, column) of the first cell.
        goal: (row, column) of the cell that pays ``goal_reward``.
        walls: (row, column) of every wall.
        step_reward: reward of every other cell, greater than 0.
        goal_reward: reward of the goal, greater than 0.
        noise: probability that the action is replaced by one drawn uniformly from all.
        stay_action: whether there is a fifth action that stays put.

    Returns:
        The world.

    Raises:
        ValueError: if a size, reward or probability is out of range, a cell is off the grid, or
            the start or the goal is a wall.
    """
    check_count(rows, "rows")
    check_count(columns, "columns")
    check_positive(step_reward, "step_reward")
    check_positive(goal_reward, "goal_reward")
    check_fraction(noise, "noise")
    is_wall = np.zeros((rows, columns), dtype=bool)
    for index, wall in enumerate(walls):
        is_wall[_inside(wall, rows, columns, f"walls[{index}]")] = True
    for cell, name in ((start, "start"), (goal, "goal")):
        if is_wall[_inside(cell, rows, columns, name)]:
            raise ValueError(f"{name} must not be a wall but is {tuple(cell)}.")

    states = rows * columns
    actions = 5 if stay_action else 4
    moved = np.zeros((states, actions, states))
    for state in range(states):
        for action in range(actions):
            row, column = np.array(divmod(state, columns)) + MOVES[action]
            open_cell = 0 <= row < rows and 0 <= column < columns and not is_wall[row, column]
            moved[state, action, row * columns + column if open_cell else state] = 1.0
    dynamics = (1 - noise) * moved + noise * moved.mean(axis=1, keepdims=True)

    goal_state = goal[0] * columns + goal[1]
    reward = np.full((states, actions), float(step_reward))
    reward[goal_state] = goal_reward
    return World(dynamics, reward, is_wall, start[0] * columns + start[1], goal_state)


def line_world(
    rewards: Sequence[float],
    *,
    start: int,
    slips: Mapping[int, float] | None = None,
) -> World:
    """Cells in a row, with the actions of a grid; up and down stay put.

    Source: the risk experiment of the authors' notebook (P), in our own construction.

    Args:
        rewards: what each cell pays at every step, from left to right, greater than 0.
        start: number of the first cell.
        slips: for some cells, the probability that any action there is replaced by "left".

    Returns:
        The world; ``goal`` is the first of the best-paid cells.

    Raises:
        ValueError: if there are no cells, a reward is not positive, or a cell or a probability is
            out of range.
    """
    cells = check_count(len(rewards), "len(rewards)")
    for cell, reward in enumerate(rewards):
        check_positive(reward, f"rewards[{cell}]")
    _inside((0, start), 1, cells, "start")
    goal = int(np.argmax(rewards))
    world = gridworld(1, cells, start=(0, start), goal=(0, goal))
    dynamics = world.dynamics.copy()
    for cell, probability in (slips or {}).items():
        _inside((0, cell), 1, cells, "slips")
        check_fraction(probability, f"slips[{cell}]")
        left = dynamics[cell, LEFT].copy()
        dynamics[cell] = (1 - probability) * dynamics[cell] + probability * left
    per_state = np.repeat(np.asarray(rewards, dtype=np.float64)[:, None], dynamics.shape[1], axis=1)
    return World(dynamics, per_state, world.walls, start, goal)


def expected_moves(dynamics: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Mean change of (row, column) for every state and action of a grid.

    Args:
        dynamics: ``[S, A, S]``.
        shape: rows and columns.

    Returns:
        ``[S, A, 2]``, in cells.
    """
    positions = np.stack(np.divmod(np.arange(dynamics.shape[0]), shape[1]), axis=1)
    moves: FloatArray = dynamics @ positions - positions[:, None, :]
    return moves


def _inside(cell: Cell, rows: int, columns: int, name: str) -> Cell:
    row, column = cell
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(
            f"{name} must lie on the {rows} x {columns} grid but is (row {row}, column {column})."
        )
    return row, column
