"""Checks on what the tabular functions are given; each failure is one sentence naming the culprit.

Every function here returns its argument as a float64 array, so callers read
``p = check_dynamics(p)`` and work with the result. A failure raises ``ValueError`` with the name
of the argument, the index of the first offending entry, its value and what was expected.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

ROW_SUM_TOLERANCE = 1e-8


def check_dynamics(dynamics: ArrayLike, name: str = "p") -> FloatArray:
    """Check a table of next-state probabilities.

    Args:
        dynamics: ``[S, A, S]``; ``dynamics[s, a]`` is a distribution over next states.
        name: what the caller calls the argument.

    Returns:
        The same table as float64.

    Raises:
        ValueError: if the shape is not ``[S, A, S]``, an entry is negative or not finite, or a row
            does not sum to 1.
    """
    array = _as_floats(dynamics, name)
    if array.ndim != 3 or array.shape[0] != array.shape[2] or 0 in array.shape:
        raise ValueError(f"{name} must have shape [S, A, S] but has shape {array.shape}.")
    return _check_distributions(array, name)


def check_policy(policy: ArrayLike, p: FloatArray) -> FloatArray:
    """Check a policy ``[S, A]`` of action probabilities against the shape of ``p``."""
    array = _check_state_action_shape(policy, p, "policy")
    return _check_distributions(array, "policy")


def check_reward(reward: ArrayLike, p: FloatArray) -> FloatArray:
    """Check a reward ``[S, A]``: finite and strictly positive, since its logarithm is taken."""
    array = _check_state_action_shape(reward, p, "reward")
    _reject(~((array > 0) & np.isfinite(array)), array, "reward", "finite and greater than 0")
    return array


def check_stop(stop: ArrayLike, p: FloatArray) -> FloatArray:
    """Check stop probabilities ``[S, A]``: greater than 0, so that every run stops, at most 1."""
    array = _check_state_action_shape(stop, p, "stop")
    _reject(~((array > 0) & (array <= 1)), array, "stop", "greater than 0 and at most 1")
    return array


def check_gamma(gamma: float) -> float:
    """Check a discount factor: strictly between 0 and 1."""
    if not 0 < gamma < 1:
        raise ValueError(f"gamma must lie strictly between 0 and 1 but is {gamma!r}.")
    return float(gamma)


def check_log_ratio_weight(log_ratio_weight: float, gamma: float) -> float:
    """Check the coefficient of log p/q: finite and no smaller than ``gamma``.

    Below ``gamma`` the expression is no longer a lower bound (docs/theory.md, section 1).
    """
    if not (math.isfinite(log_ratio_weight) and log_ratio_weight >= gamma):
        raise ValueError(
            f"log_ratio_weight must be at least gamma = {gamma} for the bound to hold "
            f"but is {log_ratio_weight!r}."
        )
    return float(log_ratio_weight)


def check_positive(number: float, name: str) -> float:
    """Check that a number is finite and greater than 0."""
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and greater than 0 but is {number!r}.")
    return float(number)


def check_count(number: int, name: str) -> int:
    """Check that a number is a whole number of at least 1."""
    if isinstance(number, bool) or not math.isfinite(number) or number < 1 or number % 1:
        raise ValueError(f"{name} must be a whole number of at least 1 but is {number!r}.")
    return int(number)


def check_fraction(number: float, name: str) -> float:
    """Check that a number lies between 0 and 1, both included."""
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must lie between 0 and 1 but is {number!r}.")
    return float(number)


def check_value(value: ArrayLike, p: FloatArray) -> FloatArray:
    """Check a value per state ``[S]``: finite numbers of either sign."""
    array = _as_floats(value, "value")
    if array.shape != p.shape[:1]:
        raise ValueError(f"value must have shape {p.shape[:1]} to match p but has {array.shape}.")
    _reject(~np.isfinite(array), array, "value", "finite")
    return array


def check_state(start: float, p: FloatArray) -> int:
    """Check the number of a start state: whole, from 0 to S - 1."""
    states = p.shape[0]
    if np.ndim(start) != 0 or not (0 <= start < states and start % 1 == 0):
        raise ValueError(f"start must be a state from 0 to {states - 1} but is {start!r}.")
    return int(start)


def check_start(start: int | ArrayLike, p: FloatArray) -> FloatArray:
    """Turn a start state, or a distribution ``[S]`` over them, into a distribution ``[S]``."""
    states = p.shape[0]
    array = _as_floats(start, "start")
    if array.ndim == 0:
        distribution = np.zeros(states)
        distribution[check_state(float(array), p)] = 1.0
        return distribution
    if array.shape != (states,):
        raise ValueError(f"start must have shape {(states,)} to match p but has {array.shape}.")
    return _check_distributions(array, "start")


def check_model(q: ArrayLike, p: FloatArray) -> FloatArray:
    """Check a model ``q`` against the real dynamics ``p``.

    Args:
        q: the model, ``[S, A, S]``.
        p: the real dynamics, ``[S, A, S]``, already checked.

    Returns:
        The model as float64.

    Raises:
        ValueError: if ``q`` is not a table of distributions of the same shape as ``p``, or is not
            absolutely continuous with respect to ``p`` (log p/q would be minus infinity).
    """
    q = check_dynamics(q, "q")
    if q.shape != p.shape:
        raise ValueError(f"q must have shape {p.shape} to match p but has shape {q.shape}.")
    _reject((q > 0) & (p == 0), q, "q", "0 where p is 0 (absolute continuity)")
    return q


def _as_floats(values: int | ArrayLike, name: str) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers ({error}).") from error


def _check_state_action_shape(values: ArrayLike, p: FloatArray, name: str) -> FloatArray:
    array = _as_floats(values, name)
    if array.shape != p.shape[:2]:
        raise ValueError(
            f"{name} must have shape {p.shape[:2]} to match p but has shape {array.shape}."
        )
    return array


def _check_distributions(array: FloatArray, name: str) -> FloatArray:
    _reject(~((array >= 0) & np.isfinite(array)), array, name, "a finite, non-negative probability")
    sums = array.sum(axis=-1)
    wrong = np.abs(sums - 1) > ROW_SUM_TOLERANCE
    if wrong.any():
        if array.ndim == 1:
            raise ValueError(f"{name} must sum to 1 but sums to {float(sums):.12g}.")
        where = _first(wrong)
        raise ValueError(
            f"{name}[{_written(where)}] must sum to 1 but sums to {float(sums[where]):.12g}."
        )
    return array


def _reject(wrong: NDArray[np.bool_], array: FloatArray, name: str, expected: str) -> None:
    if wrong.any():
        where = _first(wrong)
        raise ValueError(
            f"{name}[{_written(where)}] must be {expected} but is {float(array[where]):.12g}."
        )


def _first(wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(wrong)[0])


def _written(index: tuple[int, ...]) -> str:
    return ", ".join(str(i) for i in index)
