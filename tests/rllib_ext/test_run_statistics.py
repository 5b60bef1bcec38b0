"""Tests of the statistics over runs, on numbers whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rllib_ext.run_statistics import (
    Curve,
    aggregate,
    align,
    bootstrap_interval,
    interquartile_mean,
    steps_to_threshold,
)


def test_a_curve_has_no_gaps_and_one_value_a_step() -> None:
    curve = Curve.of([0, 0, 20, 10, 30], [1.0, 2.0, 4.0, 3.0, math.nan])
    assert curve.steps.tolist() == [0, 10, 20]
    assert curve.values.tolist() == [2, 3, 4]


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    scores = np.array([100.0, 1.0, 2.0, 3.0, 4.0, -100.0, 5.0, 6.0])
    assert interquartile_mean(scores) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == pytest.approx(4.0)
    assert interquartile_mean(scores[:4], scores[4:]) == pytest.approx(3.5)


def test_the_interval_is_that_of_the_resampled_means() -> None:
    # The mean of two draws from {0, 1} is 0 or 1 in a quarter of the cases each.
    low, high = bootstrap_interval(np.array([[0.0, 5.0], [1.0, 5.0]]))
    assert low.tolist() == [0, 5]
    assert high.tolist() == [1, 5]
    # Of many normal scores that is the mean's standard error, times 1.96; the middle half of a
    # normal distribution has a mean of 1.19 times the variance of the whole one's.
    scores = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(scores)
    width = 2 * 1.96 * math.sqrt(1.19 / 400)
    assert high - low == pytest.approx(width, rel=0.15)
    assert low < interquartile_mean(scores) < high


def test_runs_are_drawn_anew_within_their_stratum() -> None:
    # Between the tasks lies all of the difference: drawn together they would spread from 0 to 10.
    low, high = bootstrap_interval(np.zeros(3), np.full(3, 10.0))
    assert low == high == 5


def test_of_a_single_run_no_interval_is_known() -> None:
    low, high = bootstrap_interval(np.array([[3.0, 4.0]]))
    assert np.isnan([*low, *high]).all()
    assert low.shape == (2,)


def test_runs_with_different_evaluations_meet_on_the_widest_grid() -> None:
    fine = Curve.of([50, 100, 150, 200, 250, 300], [1, 2, 3, 4, 5, 6])
    coarse = Curve.of([103, 206], [10, 20])
    steps, values = align([fine, coarse], 100)
    assert steps.tolist() == [100, 200, 300]
    np.testing.assert_allclose(values[0], [2, 4, 6])
    np.testing.assert_allclose(values[1], [10, 10 + 10 * 97 / 103, math.nan])


def test_a_point_says_how_many_runs_it_is_of() -> None:
    curves = [
        Curve.of([10, 20, 30], [1.0, 2.0, 3.0]),
        Curve.of([10, 20], [3.0, 2.0]),
        Curve.of([], []),
    ]
    table = aggregate(curves, 10)
    assert table["steps"].tolist() == [10, 20, 30]
    assert table["runs"].tolist() == [2, 2, 1]
    assert table["iqm"].tolist() == [2, 2, 3]
    assert table["low"].tolist()[:2] == [1, 2]
    assert table["high"].tolist()[:2] == [3, 2]
    assert table[["low", "high"]].iloc[2].isna().all()


def test_without_any_measurement_there_is_no_point() -> None:
    assert aggregate([Curve.of([], [])], 10).empty
    assert list(aggregate([], 10)) == ["steps", "runs", "iqm", "low", "high"]


def test_the_steps_to_a_threshold_are_those_of_the_first_value_there() -> None:
    curve = Curve.of([10, 20, 30, 40], [1, 5, 2, 6])
    assert steps_to_threshold(curve, 5) == 20
    assert steps_to_threshold(curve, 5.5) == 40
    assert math.isnan(steps_to_threshold(curve, 7))
    assert math.isnan(steps_to_threshold(Curve.of([], []), 0))
