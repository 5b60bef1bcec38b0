"""Tests of checking trained models on real episodes of their policies."""

from __future__ import annotations

import warnings
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import pytest

from rllib_ext.report.figures import draw_model_error, draw_paths
from rllib_ext.report.model_check import PATHS, check_models
from rllib_ext.report.page import render_page
from rllib_ext.report.runs import group_runs, load_runs
from tests.line_tasks import Line
from tests.rllib_ext.small_runs import write_run


def test_models_of_one_task_are_checked_in_the_same_units(tmp_path: Path) -> None:
    runs = load_runs(
        [
            write_run(tmp_path / "mnm", checkpoint=True),
            write_run(tmp_path / "mbpo", algo="mbpo", checkpoint=True),
            write_run(tmp_path / "sac", algo="sac", checkpoint=True),
            write_run(tmp_path / "none"),
        ]
    )
    checks, notes = check_models(runs, episodes=2, horizon=4)
    assert set(checks) == {run.folder for run in runs[:2]}
    (note,) = notes
    assert note == f"{tmp_path / 'none'}: no whole checkpoint."
    mnm, mbpo = checks.values()
    assert np.array_equal(mnm.scale, mbpo.scale)
    for check in (mnm, mbpo):
        assert len(check.error) == len(check.unchanged) == 4
        assert np.isfinite(check.error).all()
        steps = len(check.real) - 1
        assert 4 <= steps <= 10
        assert (np.diff(check.real[:, 1]) == 1).all()  # the steps of one episode
        assert check.imagined.shape == (PATHS, steps + 1, 3)
        assert (check.imagined[:, 0] == check.real[0]).all()


def test_what_no_change_would_err_by_is_of_each_groups_own_episodes(tmp_path: Path) -> None:
    runs = load_runs(
        [
            write_run(tmp_path / "a", checkpoint=True),
            write_run(tmp_path / "b", seed=1, checkpoint=True),
            write_run(tmp_path / "c", algo="mbpo", checkpoint=True),
        ]
    )
    checks, _ = check_models(runs, episodes=1, horizon=2)
    for run, errors in zip(runs, ([1.0, 2.0], [3.0, 4.0], [0.25, 0.5]), strict=True):
        checks[run.folder].unchanged[:] = errors
    groups = group_runs(runs)
    draw = Mock(wraps=draw_model_error)
    with patch("rllib_ext.report.page.draw_model_error", draw):
        render_page(groups, checks, [])
    (call,) = draw.call_args_list
    assert {label: list(table["iqm"]) for label, table in call.args[2].items()} == {
        "mnm": [2.0, 3.0],
        "mbpo": [0.25, 0.5],
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_model_that_runs_away_is_drawn_all_the_same(tmp_path: Path, value: float) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", checkpoint=True)])
    checks, _ = check_models([run], episodes=1, horizon=2)
    check = checks[run.folder]
    check.imagined[:, 3:, 0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the quantiles
        assert draw_paths(run, "mnm", check).source.startswith("data:image/svg+xml")


def test_an_environment_that_fails_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", checkpoint=True)])

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of order\nTraceback")

    monkeypatch.setattr(Line, "step", fail)
    checks, notes = check_models([run], episodes=1, horizon=2)
    assert checks == {}
    (note,) = notes
    assert "out of order" in note
    assert "\n" not in note


def test_a_dimension_that_does_not_move_does_not_count(tmp_path: Path) -> None:
    (run,) = load_runs([write_run(tmp_path / "run", checkpoint=True)])
    checks, _ = check_models([run], episodes=1, horizon=3)
    check = checks[run.folder]
    assert np.isnan(check.scale).tolist() == [False, False, True]  # the number of the episode
    # The mean square over the two others: k steps of one each among them.
    steps = np.arange(1, 4) / check.scale[1]
    assert (check.unchanged >= steps / np.sqrt(2)).all()
    assert (check.unchanged < 3 * steps).all()
    assert np.isfinite(check.error).all()
