"""Tests of whole runs of the `mnm` command on a real local Ray, and of what is made of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distributed.transition_log import TransitionLog
from distributed.wire import to_arrow
from tests.cluster.commands import LINE, ROOT, TASKS, Mnm, assert_one_sentence, without_retry
from tests.mnm.small_cases import random_transitions, same_tensors
from tests.rllib_ext.small_configs import TINY

SUMMARY_KEYS = {
    "env",
    "algo",
    "seed",
    "env_steps",
    "updates",
    "synthetic_transitions",
    "wall_seconds",
    "evaluation_return_mean",
    "evaluation_return_std",
    "evaluation_episodes",
    "updates_to_data_ratio",
    "weight_lag_max",
}


# Runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> dict[str, Any]:
    """A whole run with actors, in a process and on a Ray of its own, as a person types it."""
    folder = tmp_path_factory.mktemp("runs") / "line"
    words = [
        *("train", "--env", LINE, "--algo", "mnm", "--steps", 120, "--evaluation-interval", 40),
        *("--num-env-runners", 2, "--num-rollout-workers", 1, "--seed", 1),
        *("--config", tiny, "--set", "max_weight_lag=40", "--output", folder),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"folder": folder, "out": done.stdout, "err": done.stderr}


def test_a_run_leaves_all_its_files(finished: dict[str, Any]) -> None:
    folder = finished["folder"]
    found = set(os.listdir(folder))
    assert {"progress.csv", "result.json", "learning_curve.png", "checkpoint", "summary.json"} <= (
        found
    )
    assert [name for name in found if name.startswith("events.out.tfevents")]
    assert matplotlib.image.imread(folder / "learning_curve.png").std() > 0.01
    assert (folder / "checkpoint" / "task.json").is_file()
    results = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    progress = pd.read_csv(folder / "progress.csv")
    assert len(progress) == len(results) in (2, 3)
    assert np.isfinite(progress["evaluation/env_runners/episode_return_mean"]).all()
    assert np.isfinite(progress["env_runners/episode_return_mean"]).all()


def test_a_runs_summary_has_every_key_and_agrees_with_its_curve(finished: dict[str, Any]) -> None:
    summary = json.loads((finished["folder"] / "summary.json").read_text())
    progress = pd.read_csv(finished["folder"] / "progress.csv").iloc[-1]
    assert set(summary) >= SUMMARY_KEYS
    assert (summary["env"], summary["algo"], summary["seed"]) == (LINE, "mnm", 1)
    assert summary["evaluation_episodes"] == 10
    assert 0 < summary["evaluation_return_mean"] <= 10
    assert summary["evaluation_return_std"] >= 0
    steps, updates = summary["env_steps"], summary["updates"]
    assert 120 <= steps < 200  # a turn of the learner may take in several batches
    assert steps == progress["num_env_steps_sampled_lifetime"]
    assert updates == steps - TINY["num_random_steps"]
    assert summary["updates_to_data_ratio"] == 1.0
    assert summary["synthetic_transitions"] > 0
    assert 0 < summary["weight_lag_max"] <= 40
    assert summary["wall_seconds"] > 0


def test_a_run_prints_plain_lines_and_no_noise(finished: dict[str, Any]) -> None:
    out, err = finished["out"], finished["err"]
    assert "\x1b" not in out
    lines = [line for line in out.splitlines() if line.startswith("steps ")]
    assert len(lines) in (2, 3)
    assert all("return" in line and "time left" in line for line in lines)
    assert str(finished["folder"]) in out.splitlines()[-1]
    assert "Traceback" not in err
    assert "Warning" not in err


def test_evaluate_prints_json(finished: dict[str, Any], mnm: Mnm) -> None:
    words = ("evaluate", finished["folder"] / "checkpoint", "--episodes", 4, "--seed", 7)
    done = mnm(*words)
    assert done.code == 0
    assert done.err == ""
    figures = json.loads(done.out)
    assert {"return_mean", "return_std", "episodes"} <= set(figures)
    assert figures["episodes"] == 4
    assert 0 < figures["return_mean"] <= 10
    assert mnm(*words).out == done.out


def test_a_report_on_a_run_has_all_that_the_run_measured(
    finished: dict[str, Any], mnm: Mnm, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = mnm("report", finished["folder"], "--output", page, "--tables", tmp_path / "tables")
    assert done.code == 0
    assert done.err == ""
    assert str(page) in done.out
    (run,) = pd.read_csv(tmp_path / "tables" / "runs.csv").to_dict("records")
    summary = json.loads((finished["folder"] / "summary.json").read_text())
    assert (run["status"], run["seed"], run["steps"]) == ("finished", 1, summary["env_steps"])
    assert run["final_return"] == pytest.approx(summary["evaluation_return_mean"], rel=1e-5)
    curves = pd.read_csv(tmp_path / "tables" / "curves.csv")
    assert set(curves["quantity"]) == {"return", "estimate", "log_return"}
    assert pd.read_csv(tmp_path / "tables" / "model_error.csv")["horizon"].tolist()[0] == 1
    for missing in ("No model was checked", "None of these runs", "no run has an evaluation"):
        assert missing not in page.read_text()


def test_evaluate_refuses_a_checkpoint_of_another_task(finished: dict[str, Any], mnm: Mnm) -> None:
    done = mnm("evaluate", finished["folder"] / "checkpoint", "--env", f"{TASKS}:Plane-v0")
    assert_one_sentence(done)
    assert "is of another task" in done.err


def test_evaluate_refuses_a_truncated_checkpoint(
    finished: dict[str, Any], mnm: Mnm, tmp_path: Path
) -> None:
    agent = "learner_group/learner/agent.pt"
    source = finished["folder"] / "checkpoint"
    for name in ("task.json", agent):
        copy = tmp_path / name.replace("/", "-")
        for file in ("task.json", agent):
            content = (source / file).read_bytes()
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_bytes(content[: len(content) // 2] if file == name else content)
        done = mnm("evaluate", copy)
        assert_one_sentence(done)
        assert "damaged" in done.err


@pytest.mark.parametrize("words", [(), ("--format", "torch"), ("--format", "onnx")])
def test_an_exported_policy_is_evaluated_like_its_checkpoint(
    words: tuple[str, ...], finished: dict[str, Any], mnm: Mnm, tmp_path: Path
) -> None:
    checkpoint, file = finished["folder"] / "checkpoint", tmp_path / "policy"
    done = mnm("export", checkpoint, *words, "--output", file)
    assert (done.code, done.err) == (0, "")
    assert str(file) in done.out
    figures = []
    for source in (checkpoint, file):
        done = mnm("evaluate", source, "--episodes", 3)
        assert (done.code, done.err) == (0, "")
        figures.append(json.loads(done.out)["return_mean"])
    assert figures[1] == pytest.approx(figures[0], rel=1e-4)


BAD_EXPORTS: dict[str, tuple[tuple[str, ...], str]] = {
    "no output": (("{checkpoint}",), "--output"),
    "unknown format": (
        ("{checkpoint}", "--format", "pickle", "--output", "{folder}/policy"),
        "Unknown format 'pickle': use one of torch, onnx",
    ),
    "no checkpoint": (
        ("{folder}/none", "--output", "{folder}/policy"),
        "There is no checkpoint folder",
    ),
    "a run's folder": (("{run}", "--output", "{folder}/policy"), "is a run's folder: name"),
    "no such folder": (
        ("{checkpoint}", "--output", "{folder}/none/policy"),
        "name a file in a folder that exists",
    ),
}


@pytest.mark.parametrize("case", BAD_EXPORTS)
def test_bad_input_of_export_gets_one_sentence_and_leaves_nothing(
    case: str, finished: dict[str, Any], mnm: Mnm, tmp_path: Path
) -> None:
    words, sentence = BAD_EXPORTS[case]
    run = finished["folder"]
    places = {"run": run, "checkpoint": run / "checkpoint", "folder": tmp_path}
    done = mnm("export", *(word.format(**places) for word in words))
    assert_one_sentence(done)
    assert re.search(sentence, done.err), done.err
    assert os.listdir(tmp_path) == []


def test_evaluate_refuses_a_file_that_is_no_policy(mnm: Mnm, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("a policy")
    done = mnm("evaluate", tmp_path / "policy")
    assert_one_sentence(done)
    assert "is no policy: name a checkpoint folder or a file that mnm export wrote" in done.err


def train_in_driver(folder: Path, tiny: Path, *words: Any) -> tuple[Any, ...]:
    """The words of the deterministic mode."""
    return (
        *("train", "--config", tiny, "--output", folder),
        *("--num-env-runners", 0, "--num-rollout-workers", 0, *words),
    )


@pytest.mark.usefixtures("local_ray")
def test_the_same_job_twice_is_the_same_run_however_it_is_shown(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    tables, weights, shown = [], [], {}
    for name in ("quiet", "json"):
        words = ("--env", LINE, "--steps", 80, "--evaluation-interval", 40, "--seed", 3)
        done = mnm(*train_in_driver(tmp_path / name, tiny, *words), f"--{name}")
        assert done.code == 0, done.err
        shown[name] = done.out
        tables.append(pd.read_csv(tmp_path / name / "progress.csv"))
        agent = tmp_path / name / "checkpoint" / "learner_group" / "learner" / "agent.pt"
        weights.append(dict(torch.load(agent, weights_only=True)["networks"]))
    returns = [column for column in tables[0] if "return" in column or "episode_len" in column]
    assert len(returns) >= 6
    pd.testing.assert_frame_equal(tables[0][returns], tables[1][returns], check_exact=True)
    assert np.isfinite(tables[0]["evaluation/env_runners/episode_return_mean"]).all()
    assert same_tensors(*weights)

    summary, _, last = shown["quiet"].rpartition("Written to ")
    assert json.loads(summary) == json.loads((tmp_path / "quiet" / "summary.json").read_text())
    assert last.startswith(str(tmp_path / "quiet"))
    lines = [json.loads(line) for line in shown["json"].splitlines()]
    assert [line.pop("type") for line in lines] == ["iteration", "iteration", "summary"]
    steps = tables[1]["num_env_steps_sampled_lifetime"].tolist()
    assert [line["env_steps"] for line in lines] == [*steps, steps[-1]]
    assert lines[-1].pop("folder") == str(tmp_path / "json")
    assert lines[-1] == json.loads((tmp_path / "json" / "summary.json").read_text())


# Logs and offline data


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two parts of a run on `Line`."""
    log = TransitionLog(tmp_path / "log", "earlier", rows_per_part=30)
    for first in (0, 30):
        log.append(to_arrow(random_transitions(30, observation_dim=3, first=first)))
    log.close()
    return tmp_path / "log"


PARTS = [f"run=earlier/part-{part}.parquet" for part in ("000000-0-30", "000001-30-60")]


def change_column(file: Path, name: str, values: Any) -> None:
    table = pq.ParquetFile(file).read()
    column = table.column_names.index(name)
    pq.write_table(table.set_column(column, name, pa.array(values)), file)


@pytest.mark.parametrize("case", ["type", "value"])
@pytest.mark.usefixtures("local_ray")
def test_a_bad_file_of_offline_data_is_named_and_the_run_does_not_begin(
    case: str, mnm: Mnm, tiny: Path, log: Path, tmp_path: Path
) -> None:
    rewards = np.ones(30, np.float64 if case == "type" else np.float32)
    rewards[17] = np.nan
    change_column(log / PARTS[1], "rewards", rewards)
    words = ("--env", LINE, "--algo", "sac", "--offline-data", log, "--steps", 40)
    done = mnm(*train_in_driver(tmp_path / "run", tiny, *words))
    assert_one_sentence(without_retry(done) if case == "value" else done)
    what = "column rewards has the type double" if case == "type" else "column rewards, row 17"
    assert f"{log / PARTS[1]}: {what}" in done.err
    assert os.listdir(tmp_path) == ["log"]


@pytest.mark.usefixtures("local_ray")
def test_offline_training_without_a_step(mnm: Mnm, tiny: Path, log: Path, tmp_path: Path) -> None:
    torn = log / PARTS[1]
    torn.write_bytes(torn.read_bytes()[:-9])
    words = ("--env", LINE, "--steps", 0, "--offline-updates", 60, "--evaluation-interval", 40)
    done = mnm(*train_in_driver(tmp_path / "run", tiny, *words, "--offline-data", log))
    assert done.code == 0, done.err
    assert "part-000001-30-60.parquet was cut off" in done.err
    assert "its 30 rows are lost" in done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["offline_transitions"] == 30
    assert summary["offline_updates"] == 60
    assert summary["env_steps"] == summary["updates"] == 0
    assert 0 < summary["evaluation_return_mean"] <= 10
    progress = pd.read_csv(tmp_path / "run" / "progress.csv")
    assert progress["num_offline_updates"].tolist() == [40, 60]
    assert np.isfinite(progress["evaluation/env_runners/episode_return_mean"]).all()
    lines = [line for line in done.out.splitlines() if line.startswith("steps 0")]
    assert len(lines) == 2
    assert "offline updates 40" in lines[0]
    assert "time left" not in lines[0]


@pytest.mark.usefixtures("local_ray")
def test_a_run_logs_its_steps_and_another_starts_with_them(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    words = ("--env", LINE, "--algo", "sac", "--steps", 80, "--evaluation-interval", 40)
    done = mnm(*train_in_driver(tmp_path / "first", tiny, *words, "--log-transitions"))
    assert done.code == 0, done.err
    steps = json.loads((tmp_path / "first" / "summary.json").read_text())["env_steps"]
    frame = pd.read_parquet(tmp_path / "first" / "transitions")
    assert len(frame) == steps
    assert set(frame["run"]) == {"first"}
    offline = ("--offline-data", tmp_path / "first", "--offline-updates", 10)
    done = mnm(*train_in_driver(tmp_path / "second", tiny, *words, *offline))
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "second" / "summary.json").read_text())
    assert summary["offline_transitions"] == steps
    assert summary["offline_updates"] == 10
    assert summary["env_steps"] >= 80
    assert not (tmp_path / "second" / "transitions").exists()


@pytest.mark.usefixtures("local_ray")
def test_a_shift_that_leaves_a_reward_not_positive_names_value_and_setting(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    words = ("--env", f"{TASKS}:Negative-v0", "--steps", 40, "--set", "reward_transform=shift")
    done = mnm(*train_in_driver(tmp_path / "run", tiny, *words))
    assert_one_sentence(without_retry(done))
    for part in ("-1.5", "not positive", "reward_shift"):
        assert part in done.err
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.usefixtures("local_ray")
def test_a_value_that_is_no_number_stops_the_run_and_the_last_checkpoint_stays(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    words = ("--env", f"{TASKS}:BrokenAfterAWhile-v0", "--algo", "sac")
    steps = ("--steps", 360, "--evaluation-interval", 90)
    done = mnm(*train_in_driver(tmp_path / "run", tiny, *words, *steps))
    assert_one_sentence(without_retry(done))
    assert "not finite" in done.err
    assert "at real step" in done.err
    evaluated = mnm("evaluate", tmp_path / "run" / "checkpoint", "--episodes", 2)
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["episodes"] == 2
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.usefixtures("local_ray")
def test_a_dry_run_says_whether_the_cluster_has_room_and_starts_nothing(
    mnm: Mnm, tiny: Path, tmp_path: Path
) -> None:
    words = ("train", "--env", LINE, "--config", tiny, "--output", tmp_path / "run", "--dry-run")
    done = mnm(*words, "--num-env-runners", 0, "--num-rollout-workers", 0)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "It fits."
    done = mnm(*words, "--num-env-runners", 500)
    assert done.code == 1
    assert "no place for" in done.out
    assert not (tmp_path / "run").exists()
