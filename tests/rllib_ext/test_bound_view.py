"""Tests of what a picture of the bound shows where an estimate is far off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from rllib_ext.bound_view import FAR_OFF, BoundView

LOG_RETURNS = [5.0, 6.0, 7.0]


def test_where_nothing_is_far_off_the_picture_is_left_as_it_is() -> None:
    view = BoundView.of(LOG_RETURNS, [10 - FAR_OFF, math.nan, 4.0], [5 - FAR_OFF, 3.0])
    assert view == BoundView()
    assert view.within([1e17]).tolist() == [1e17]
    assert BoundView.of([math.nan], [1e17], [1e17]) == BoundView()


@pytest.mark.parametrize("far", [1e17, -1e17, math.inf, -math.inf])
def test_what_is_far_off_is_beyond_the_axis_and_told(far: float) -> None:
    view = BoundView.of(LOG_RETURNS, [1.0, far, 3.0], [0.0, far, 4.0])
    assert view.limits == pytest.approx((-0.35, 7.35))
    axes = Figure().subplots()
    axes.set_xlabel("steps")
    axes.plot(view.within([1.0, far, 3.0]))
    view.apply(axes)
    assert axes.get_ylim() == view.limits
    note = "1 estimate beyond 10,000 nats of the log return is not shown"
    assert axes.get_xlabel() == f"steps\n({note})"
    drawn = view.within([1.0, far, 3.0])
    assert np.isfinite(drawn).all()
    assert not -0.35 <= drawn[1] <= 7.35


def test_an_interval_that_reaches_far_is_cut_without_a_note() -> None:
    view = BoundView.of(LOG_RETURNS, [1.0, 2.0], [-1e9, 4.0])
    assert view.limits == pytest.approx((0.7, 7.3))
    assert view.note == ""


def test_several_estimates_are_counted() -> None:
    note = BoundView.of(LOG_RETURNS, [1e5, 1e6, math.nan], []).note
    assert note.startswith("2 estimates beyond")
    assert note.endswith("are not shown")
