"""Tests of judging a checkpoint's model by transitions from files, and of what it refuses."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs
from rich.console import Console

from distributed.wire import to_arrow
from mnm import Transitions
from rllib_ext.checkpoint_files import write_task_file
from rllib_ext.errors import UserError
from rllib_ext.inspect_command import calibration_sentence, inspect, show
from rllib_ext.inspection import WORST, inspect_checkpoint
from rllib_ext.inspection_figures import (
    CALIBRATION_FILE,
    CLASSIFIER_FILE,
    ERROR_FILE,
    _calibration,
)
from rllib_ext.saved_model import load_model
from tests.mnm.small_cases import random_transitions, same_tensors, small_agent
from tests.rllib_ext.small_checkpoints import AGENT, cut


def write_model(folder: Path, algo: str = "mnm", fits: int = 3, **settings: Any) -> Any:
    """A checkpoint as `load_model` reads it; returns its agent."""
    agent = small_agent(algo, **settings)
    agent.ingest(random_transitions(300))
    for _ in range(fits):
        agent.fit()
    (folder / AGENT).parent.mkdir(parents=True)
    torch.save({**agent.state_dict(), "version": 0}, folder / AGENT)
    task = {"env": "Task-v0", "env_config": {}, "algo": algo}
    progress = {"training_iteration": 1, "env_steps": 300, "time_total_s": 1.0}
    write_task_file(fs.LocalFileSystem(), str(folder), {**task, **progress})
    return agent


def write_data(file: Path, transitions: Transitions) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([to_arrow(transitions)]), file)
    return str(file)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_model(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_data(tmp_path / "data" / "rows.parquet", random_transitions(200, seed=1))


@pytest.mark.parametrize("termination", [None, "known"])
@pytest.mark.parametrize("algo", ["mbpo", "mnm-approx", "mnm"])
def test_the_model_is_read_as_it_was_saved(
    algo: str, termination: str | None, tmp_path: Path
) -> None:
    settings = {} if termination else {"termination": None}
    agent = write_model(tmp_path, algo, fits=1, **settings)
    model = load_model(tmp_path)
    assert model is not None
    assert (model.algo, model.env, model.env_steps) == (algo, "Task-v0", 300)
    assert same_tensors(model.dynamics.state_dict(), agent.networks.dynamics.state_dict())
    if algo == "mbpo":
        assert model.classifier is None
    else:
        assert model.classifier is not None
        assert same_tensors(model.classifier.state_dict(), agent.networks.classifier.state_dict())
    elites = agent.networks.dynamics.elites
    assert model.members is None if algo == "mnm" else model.members.tolist() == elites.tolist()


def test_a_planted_jump_is_the_worst_transition(checkpoint: Path, tmp_path: Path) -> None:
    rows = random_transitions(200, seed=1)
    rows.next_observations[123, 1] += 500.0
    folder = tmp_path / "second"
    first = write_data(tmp_path / "first" / "rows.parquet", random_transitions(50, seed=2))
    second = write_data(folder / "rows.parquet", rows)
    inspection = inspect_checkpoint(checkpoint, [first, second], horizon=5, seed=0)
    assert (inspection.rows, inspection.episodes) == (250, 25)
    worst = inspection.worst[0]
    assert (worst.source, worst.episode, worst.step) == (str(folder), 12, 3)
    assert worst.dimension == 1
    assert worst.deviations > 10
    likelihoods = [one.nll for one in inspection.worst]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert len(likelihoods) == WORST


def test_a_fitted_model_beats_doing_nothing_and_a_seed_repeats_it(
    checkpoint: Path, data: str
) -> None:
    inspection = inspect_checkpoint(checkpoint, [data], horizon=30, seed=0)
    judged = inspection.open_loop
    assert len(judged.starts) == 10  # as long as the longest episode
    assert (judged.rmse[0] < judged.unmoved[0]).all()
    again = inspect_checkpoint(checkpoint, [data], horizon=30, seed=0)
    np.testing.assert_array_equal(again.open_loop.rmse, judged.rmse)
    assert again.accuracy == inspection.accuracy


@pytest.mark.parametrize(
    ("covered", "verdict"), [(0.5, "too sure"), (0.9, "about right"), (0.99, "less sure")]
)
def test_the_verdict_follows_from_the_coverage(
    covered: float, verdict: str, checkpoint: Path, data: str
) -> None:
    inspection = inspect_checkpoint(checkpoint, [data], horizon=1, seed=0)
    inspection.covered[:] = covered
    assert verdict in calibration_sentence(inspection)


def test_dimensions_that_never_move_do_not_hide_that_a_model_is_too_sure(
    checkpoint: Path, tmp_path: Path
) -> None:
    rows = random_transitions(200, seed=1)
    rows.observations[:, 0] = rows.next_observations[:, 0] = 1.0
    file = write_data(tmp_path / "rows.parquet", rows)
    inspection = inspect_checkpoint(checkpoint, [file], horizon=1, seed=0)
    inspection.covered[:, 0] = 1.0
    inspection.covered[:, 1] = 0.75  # with the other dimension, 0.875
    assert inspection.moving.tolist() == [False, True]
    sentence = calibration_sentence(inspection)
    assert "hold 75.0% of the values that move: the model is too sure" in sentence
    inspection.one_step.quantiles[:, 0] = 0.5
    intervals, histogram = _calibration(inspection).axes
    (observed,) = [line for line in intervals.lines if line.get_label() == "observed"]
    assert set(observed.get_ydata()) == {0.75}
    counts, _ = np.histogram(inspection.one_step.quantiles[:, 1], 20, (0, 1), density=True)
    bars = [bar.get_height() for bar in histogram.patches]
    np.testing.assert_allclose(bars, counts)


@pytest.mark.filterwarnings("error:Mean of empty slice")
def test_where_nothing_moves_nothing_is_said_of_the_variance(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = random_transitions(50)
    rows.observations[:] = rows.next_observations[:] = 1.0
    file = write_data(tmp_path / "rows.parquet", rows)
    inspect(checkpoint, [file], tmp_path / "out", horizon=2)
    assert "nothing can be said of the predicted variance" in capsys.readouterr().out


def test_the_command_prints_tables_and_draws_pictures(
    checkpoint: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(checkpoint, [data], tmp_path / "new" / "pictures", horizon=4)
    out = capsys.readouterr().out
    assert "judged by 200 transitions of 20 episodes" in out
    for title in ("Prediction along logged actions", "Classifier", "most unlikely"):
        assert title in out
    for name in (ERROR_FILE, CALIBRATION_FILE, CLASSIFIER_FILE):
        assert name in out
        picture = matplotlib.image.imread(tmp_path / "new" / "pictures" / name)
        assert len(np.unique(picture)) > 20


def test_mbpo_has_no_classifier_to_show(tmp_path: Path, data: str) -> None:
    write_model(tmp_path / "checkpoint", "mbpo")
    console = Console(width=100, file=io.StringIO(), record=True)
    show(inspect_checkpoint(tmp_path / "checkpoint", [data], 3, 0), console)
    assert "mbpo has no classifier." in console.export_text()


def test_a_dimension_that_never_changes_has_no_relative_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = random_transitions(100)
    rows.observations[:, 0] = rows.next_observations[:, 0] = 1.0
    inspect(checkpoint, [write_data(tmp_path / "rows.parquet", rows)], tmp_path / "out", horizon=2)
    assert "(dimension 1)" in capsys.readouterr().out


BAD: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "no steps ahead": (lambda _: None, {"horizon": 0}, "--horizon 0 is not valid"),
    "negative seed": (lambda _: None, {"seed": -1}, "--seed -1 is not valid"),
    "no data": (lambda _: None, {"data": ["/no/such/data"]}, "no offline data at /no/such/data"),
    "no checkpoint": (lambda _: None, {"checkpoint": Path("/no")}, "no checkpoint folder /no"),
    "no networks": (lambda folder: (folder / AGENT).unlink(), {}, "is not whole: .*agent.pt"),
    "cut networks": (lambda folder: cut(folder / AGENT), {}, "its networks cannot be read"),
    "other content": (
        lambda folder: torch.save({"networks": {}}, folder / AGENT),
        {},
        "its model cannot be read",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(case: str, tmp_path: Path, data: str) -> None:
    damage, arguments, sentence = BAD[case]
    folder = tmp_path / "checkpoint"
    write_model(folder, fits=1)
    damage(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        inspect(**{"checkpoint": folder, "data": [data], **arguments})
    assert "\n" not in str(caught.value)


def test_data_of_another_task_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    file = write_data(tmp_path / "rows.parquet", random_transitions(20, observation_dim=3))
    with pytest.raises(UserError, match=r"observations has 3 values a row, this task has 2"):
        inspect(checkpoint, [file])


def test_an_output_that_is_a_file_is_refused(checkpoint: Path, data: str) -> None:
    with pytest.raises(UserError, match=r"--output .* is a file"):
        inspect(checkpoint, [data], Path(data))


def test_sac_and_a_model_that_was_never_fitted_are_named(tmp_path: Path, data: str) -> None:
    write_model(tmp_path / "sac", "sac", fits=0)
    with pytest.raises(UserError, match="is of sac, which has no model"):
        inspect(tmp_path / "sac", [data])
    write_model(tmp_path / "early", fits=0)
    with pytest.raises(UserError, match="was never fitted"):
        inspect(tmp_path / "early", [data])
