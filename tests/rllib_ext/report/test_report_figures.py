"""Tests of what the report's figures draw."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnm.tabular.figure_style import BLUE, RED
from rllib_ext.report.figures import Picture, draw_bound, draw_learning_curves, draw_model_error
from rllib_ext.report.runs import group_runs, load_runs
from rllib_ext.report.tables import learning_curves
from tests.rllib_ext.small_runs import write_run


def svg_of(picture: Picture) -> str:
    return base64.b64decode(picture.source.partition(",")[2]).decode().lower()


def test_a_group_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", algo="sac"), write_run(tmp_path / "b", algo="mbpo")]
    groups = group_runs(load_runs(runs))
    curves = draw_learning_curves(groups, learning_curves(groups), "Line-v0")
    errors = pd.DataFrame({"steps": [1, 2], "runs": 1, "iqm": [0.1, 0.2], "low": 0.1, "high": 0.2})
    still = errors.assign(iqm=1.0)
    error = draw_model_error(groups, {"mbpo": errors}, {"mbpo": still}, "Line-v0")
    assert BLUE.lower() in svg_of(curves)  # sac's, which has no model
    assert BLUE.lower() not in svg_of(error)
    assert RED.lower() in svg_of(curves)
    assert RED.lower() in svg_of(error)
    assert error.text == "Error of the model by horizon on Line-v0: mbpo 0.2 after 2 steps."


def test_a_curve_is_dotted_where_runs_are_missing(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1)]
    whole = group_runs(load_runs(runs))
    runs[1] = write_run(tmp_path / "c", [1.0, 2.0], finished=False, seed=1)
    missing = group_runs(load_runs(runs))
    dotted = "stroke-dasharray"
    assert dotted not in svg_of(draw_learning_curves(whole, learning_curves(whole), "Line-v0"))
    assert dotted in svg_of(draw_learning_curves(missing, learning_curves(missing), "Line-v0"))


@pytest.mark.parametrize("far", [1e17, -1e17, np.inf])
def test_an_estimate_that_diverged_does_not_flatten_the_bound(tmp_path: Path, far: float) -> None:
    (group,) = group_runs(load_runs([write_run(tmp_path / "a")]))
    table = pd.DataFrame({"steps": [1, 2, 3], "runs": 1})
    log_return = table.assign(iqm=[5.0, 6.0, 7.0], low=4.5, high=7.5)
    near = table.assign(iqm=[3.0, 4.0, 5.0], low=2.5, high=5.5)
    beyond = near.assign(iqm=[3.0, far, 5.0], low=[2.5, -abs(far), 4.5], high=[3.5, abs(far), 5.5])
    whole = draw_bound(group, {"log_return": log_return, "estimate": near})
    shown = draw_bound(group, {"log_return": log_return, "estimate": beyond})
    note = "1 estimate beyond 10,000 nats of the log return is not shown"
    assert note not in svg_of(whole)
    assert note in svg_of(shown)
    assert note in shown.text
    assert ">5</text>" in svg_of(shown)  # a tick between the log returns
