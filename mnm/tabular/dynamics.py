"""Models of the dynamics: how far they are from the real ones, tilted to value, averaged in blocks.

All tables have shape ``[S, A, S]``; logarithms are natural, so divergences are in nats.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mnm.tabular.checks import (
    FloatArray,
    check_count,
    check_dynamics,
    check_model,
    check_positive,
    check_value,
)


def model_divergence(q: ArrayLike, p: ArrayLike) -> FloatArray:
    """Relative entropy KL(q(.|s,a) || p(.|s,a)), that is E_q[log q/p], for every state and action.

    Source: the term E_q[log p/q] = -KL of the bound (P; docs/theory.md, section 1).

    Args:
        q: the model, ``[S, A, S]``.
        p: the real dynamics, ``[S, A, S]``.

    Returns:
        ``[S, A]``, in nats.

    Raises:
        ValueError: if a table is malformed, or ``q`` is positive where ``p`` is zero.
    """
    p = check_dynamics(p)
    return relative_entropy(check_model(q, p), p)


def relative_entropy(q: FloatArray, p: FloatArray) -> FloatArray:
    """Unchecked relative entropy of the last axis; infinite where ``q`` is not covered by ``p``."""
    positive = q > 0
    with np.errstate(divide="ignore"):
        log_ratio = np.log(np.where(positive, q, 1.0)) - np.log(np.where(positive, p, 1.0))
    entropy: FloatArray = np.maximum((q * log_ratio).sum(axis=-1), 0.0)
    return entropy


def optimistic_dynamics(p: ArrayLike, value: ArrayLike, temperature: float = 1.0) -> FloatArray:
    """The real dynamics tilted to valuable states: q(s'|s,a) proportional to p exp(V(s') / T).

    Source: best response of the model (P with T = 1; D for the exact optimum, which is
    T = log_ratio_weight / gamma; docs/theory.md, section 4).

    Args:
        p: the real dynamics, ``[S, A, S]``.
        value: value of each next state, ``[S]``, of either sign, in nats.
        temperature: greater than 0; smaller is more optimistic.

    Returns:
        The model q, ``[S, A, S]``; zero wherever ``p`` is zero.

    Raises:
        ValueError: if an argument is malformed; the message names it and the offending index.
    """
    p = check_dynamics(p)
    value = check_value(value, p)
    return tilt(p, value / check_positive(temperature, "temperature"))


def tilt(p: FloatArray, log_weight: FloatArray) -> FloatArray:
    """Unchecked p(s'|s,a) exp(log_weight(s')), normalised; safe for weights of any size."""
    # Subtract the largest weight among the *reachable* states of each row, or rows that reach
    # only poor states would underflow to 0/0.
    exponent = np.where(p > 0, log_weight, -np.inf)
    weights = p * np.exp(exponent - exponent.max(axis=-1, keepdims=True))
    tilted: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return tilted


def aggregate_dynamics(
    p: ArrayLike, block: int, shape: tuple[int, int] | None = None
) -> FloatArray:
    """The same dynamics seen by a model that cannot tell the cells of a block apart.

    The grid is cut into ``block`` x ``block`` squares (smaller at the far edges). In each square
    and for each action the distribution of the *move* (change of row, change of column) is averaged
    over the cells, and every cell of the square gets that average. A move that would leave the
    grid stops at its edge. Walls are not known to the model, so it may move into them.
    Source: the inaccurate model of the paper's figure 2b (P), in our own construction.

    Args:
        p: dynamics of a grid, ``[S, A, S]``; state ``row * columns + column``.
        block: side of a square, in cells; 1 returns ``p`` itself.
        shape: ``(rows, columns)`` of the grid; by default the square grid with S cells.

    Returns:
        The aliased dynamics, ``[S, A, S]``.

    Raises:
        ValueError: if ``p`` is malformed, ``block`` is less than 1, or ``shape`` does not have S
            cells.
    """
    p = check_dynamics(p)
    block = check_count(block, "block")
    states, actions, _ = p.shape
    rows, columns = shape if shape is not None else (math.isqrt(states),) * 2
    if rows < 1 or columns < 1 or rows * columns != states:
        raise ValueError(
            f"shape must be (rows, columns) with {states} cells to match p but is "
            f"{(rows, columns)}."
        )
    row, column = np.divmod(np.arange(states), columns)
    blocks_across = -(-columns // block)
    block_of = (row // block) * blocks_across + column // block

    # A move is a pair of changes, each shifted to be a valid index.
    moves = np.zeros((block_of.max() + 1, actions, 2 * rows - 1, 2 * columns - 1))
    s, a, t = np.nonzero(p)
    np.add.at(
        moves,
        (block_of[s], a, row[t] - row[s] + rows - 1, column[t] - column[s] + columns - 1),
        p[s, a, t],
    )
    moves /= np.bincount(block_of)[:, None, None, None]

    aliased = np.zeros_like(p)
    for b, a, down, right in np.argwhere(moves > 0):
        cells = np.flatnonzero(block_of == b)
        to_row = np.clip(row[cells] + down - (rows - 1), 0, rows - 1)
        to_column = np.clip(column[cells] + right - (columns - 1), 0, columns - 1)
        np.add.at(aliased, (cells, a, to_row * columns + to_column), moves[b, a, down, right])
    return aliased
