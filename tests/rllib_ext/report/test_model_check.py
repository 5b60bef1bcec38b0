"""Tests of checking trained models on real episodes of their policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rllib_ext.report.model_check import PATHS, check_models
from rllib_ext.report.runs import load_runs
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
    assert set(checks) == {tmp_path / "mnm", tmp_path / "mbpo"}
    (note,) = notes
    assert note == f"{tmp_path / 'none'}: no whole checkpoint."
    mnm, mbpo = checks[tmp_path / "mnm"], checks[tmp_path / "mbpo"]
    assert np.array_equal(mnm.scale, mbpo.scale)
    for check in (mnm, mbpo):
        assert len(check.error.rmse) == 4
        assert np.isfinite(check.error.rmse).all()
        steps = len(check.real) - 1
        assert 4 <= steps <= 10
        assert (np.diff(check.real[:, 1]) == 1).all()  # the steps of one episode
        assert check.imagined.shape == (PATHS, steps + 1, 3)
        assert (check.imagined[:, 0] == check.real[0]).all()


def test_a_dimension_that_does_not_move_does_not_count(tmp_path: Path) -> None:
    run = load_runs([write_run(tmp_path / "run", checkpoint=True)])
    checks, _ = check_models(run, episodes=1, horizon=2)
    check = checks[tmp_path / "run"]
    assert np.isinf(check.scale).tolist() == [False, False, True]  # the number of the episode
    assert (check.error.rmse_by_dimension[:, 2] == 0).all()
    assert (check.error.rmse > 0).all()
