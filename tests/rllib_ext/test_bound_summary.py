"""Tests of what is read of the bound's samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnm.bound_estimate import BoundSamples
from rllib_ext.bound_summary import NO_ESTIMATE, bound_summary


def samples(bounds: list[float]) -> BoundSamples:
    values = np.array(bounds, dtype=np.float32)
    return BoundSamples(values, np.full(4, 3.0, np.float32), np.full(5, 2.0), horizon=7)


def test_each_quantity_has_its_mean_and_interval() -> None:
    summary = bound_summary(samples([0.5, 1.0, 1.5, 1.0]))
    assert summary.keys() == NO_ESTIMATE.keys()
    assert summary["estimate"] == 1.0
    assert 0.5 <= summary["estimate_low"] < 1.0 < summary["estimate_high"] <= 1.5
    assert summary["log_return"] == pytest.approx(2.0)
    assert summary["gap"] == pytest.approx(1.0)
    assert summary["model_optimism"] == pytest.approx(1.0)
    assert summary["horizon"] == 7


def test_estimates_that_a_model_drove_far_off_do_not_overflow() -> None:
    summary = bound_summary(samples([3e38, 3e38, 3e38, 1.0]))
    assert summary["estimate"] == pytest.approx(2.25e38)
    assert math.isfinite(summary["gap_low"])
