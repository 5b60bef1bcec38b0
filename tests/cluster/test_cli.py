"""Tests of the `mnm` command: one sentence for bad input, and whole runs on a real local Ray."""

from __future__ import annotations

import json
import os
import re
import socket
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
import ray
import torch
from ray.tune.registry import ENV_CREATOR, _global_registry

from distributed.transition_log import TransitionLog
from distributed.wire import to_arrow
from tests.cluster.commands import LINE, ROOT, TASKS, Mnm, assert_one_sentence
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


# Bad input that is seen before anything is started

LINE_RUN = ("--env", LINE)
BAD_TRAINING: dict[str, tuple[tuple[Any, ...], str]] = {
    "unknown environment": (("--env", "NoSuch-v0"), "'NoSuch-v0'"),
    "unknown module": (("--env", "no_such_module:Task-v0"), "'no_such_module:Task-v0'"),
    "unknown id in a module": (("--env", f"{TASKS}:NoSuch-v0"), "NoSuch"),
    "no environment": ((), "--env"),
    "discrete actions": (
        ("--env", "CartPole-v1"),
        "CartPole-v1 has a discrete action space .* not supported",
    ),
    "pictures": (("--env", f"{TASKS}:Image-v0"), "observation space .* not supported"),
    "unbounded actions": (("--env", f"{TASKS}:Unbounded-v0"), "unbounded action space"),
    "unknown algorithm": (
        (*LINE_RUN, "--algo", "ppo"),
        "'ppo'.*sac, mbpo, mnm-approx, mnm",
    ),
    "no steps": ((*LINE_RUN, "--steps", 0), "--steps 0 is not valid"),
    "negative steps": ((*LINE_RUN, "--steps", -5), "--steps -5 is not valid"),
    "steps in words": ((*LINE_RUN, "--steps", "many"), "'--steps'.*'?many'?|valid integer"),
    "half a step": ((*LINE_RUN, "--steps", "1.5"), "'--steps'"),
    "negative runners": (
        (*LINE_RUN, "--num-env-runners", -1),
        "--num-env-runners -1 is not valid",
    ),
    "negative workers": (
        (*LINE_RUN, "--num-rollout-workers", -2),
        "--num-rollout-workers -2 is not valid",
    ),
    "negative GPUs": ((*LINE_RUN, "--num-gpus", -1), "--num-gpus -1.* is not valid"),
    "GPUs that are no number": ((*LINE_RUN, "--num-gpus", "nan"), "--num-gpus nan is not valid"),
    "negative seed": ((*LINE_RUN, "--seed", -1), "--seed -1 is not valid"),
    "seed beyond NumPy's": ((*LINE_RUN, "--seed", 2**40), "--seed 1099511627776 is not valid"),
    "no evaluation interval": (
        (*LINE_RUN, "--evaluation-interval", 0),
        "--evaluation-interval 0 is not valid",
    ),
    "unknown option": ((*LINE_RUN, "--learning-rate", 1), "No such option.*--learning-rate"),
    "option without its value": ((*LINE_RUN, "--steps"), "--steps"),
    "workers for sac": (
        (*LINE_RUN, "--algo", "sac", "--num-rollout-workers", 1),
        "'sac' has no model to imagine with",
    ),
    "unknown setting": ((*LINE_RUN, "--set", "gama=0.9"), "Unknown setting 'gama'.*gamma"),
    "setting without a value": ((*LINE_RUN, "--set", "gamma"), "write NAME=VALUE"),
    "setting out of range": ((*LINE_RUN, "--set", "gamma=1.5"), "gamma=1.5 is not valid"),
    "negative batch": ((*LINE_RUN, "--set", "batch_size=-1"), "batch_size=-1 is not valid"),
    "batch of zero": ((*LINE_RUN, "--set", "batch_size=0"), "batch_size=0 is not valid"),
    "schedule that is a number": (
        (*LINE_RUN, "--set", "rollout_schedule=5"),
        "rollout_schedule=5 is not valid",
    ),
    "schedule of words": (
        (*LINE_RUN, "--set", "rollout_schedule=[a, b, c, d]"),
        "rollout_schedule=.* is not valid",
    ),
    "weight decay that is a number": (
        (*LINE_RUN, "--set", "dynamics_weight_decay=0"),
        "dynamics_weight_decay=0 is not valid",
    ),
    "reward in words": (
        (*LINE_RUN, "--set", "terminal_reward=much"),
        "terminal_reward='much' is not valid",
    ),
    "lag in words": (
        (*LINE_RUN, "--set", "max_weight_lag=short"),
        "max_weight_lag='short' is not valid",
    ),
    "lag too small": ((*LINE_RUN, "--set", "max_weight_lag=5"), "max_weight_lag=5 is less than"),
    "bad termination": (
        (*LINE_RUN, "--set", "termination=no_such_module:ended"),
        "termination='no_such_module:ended' cannot be imported",
    ),
    "setting that is an option": (
        (*LINE_RUN, "--set", "num_rollout_workers=3"),
        "use --num-rollout-workers",
    ),
    "algorithm as a setting": ((*LINE_RUN, "--set", "algo=sac"), "use --algo"),
    "missing offline data": (
        (*LINE_RUN, "--offline-data", "no/such/log"),
        "There are no offline data at no/such/log",
    ),
    "offline updates without data": (
        (*LINE_RUN, "--offline-updates", 5),
        "--offline-updates needs transitions: name them with --offline-data",
    ),
    "negative offline updates": (
        (*LINE_RUN, "--offline-updates", -5),
        "--offline-updates -5 is not valid",
    ),
    "no steps and no offline updates": (
        (*LINE_RUN, "--offline-data", "no/such/log", "--steps", 0),
        "--steps 0 is not valid",
    ),
    "missing settings file": ((*LINE_RUN, "--config", "no/such.yaml"), "no/such.yaml"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_bad_input_of_train_gets_one_sentence_and_leaves_nothing(
    case: str, mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, sentence = BAD_TRAINING[case]
    monkeypatch.chdir(tmp_path)
    done = mnm("train", *words, "--output", tmp_path / "run")
    assert_one_sentence(done)
    assert re.search(sentence, done.err), done.err
    assert os.listdir(tmp_path) == []


def test_without_output_nothing_is_left_either(
    mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(mnm("train", "--env", "CartPole-v1"))
    assert os.listdir(tmp_path) == []


def test_an_output_folder_that_holds_a_run_is_left_alone(mnm: Mnm, tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("old\n")
    done = mnm("train", "--env", LINE, "--output", tmp_path)
    assert_one_sentence(done)
    assert "already holds a run" in done.err
    assert os.listdir(tmp_path) == ["progress.csv"]
    assert (tmp_path / "progress.csv").read_text() == "old\n"


@pytest.mark.usefixtures("local_ray")
def test_gpus_that_this_machine_lacks_are_refused(
    mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Ray is started to find that out."""
    # Tune's registry asks the running Ray for its job once; after that it need not.
    _global_registry.contains(ENV_CREATOR, LINE)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", no_start)
    monkeypatch.setattr(ray, "shutdown", no_start)
    done = mnm("train", "--env", LINE, "--num-gpus", 1000, "--output", tmp_path / "run")
    assert_one_sentence(done)
    assert "1000 GPU(s) are asked for and this machine has" in done.err
    assert os.listdir(tmp_path) == []


def test_a_cluster_that_does_not_answer_is_named(
    mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as listener:  # a port of this machine that nobody listens on
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", no_start)
    done = mnm("train", "--env", LINE, "--output", tmp_path / "run")
    assert_one_sentence(done)
    assert f"Cannot join the Ray cluster at RAY_ADDRESS={address}" in done.err
    assert os.listdir(tmp_path) == []


def no_start(*arguments: Any, **options: Any) -> None:
    pytest.fail("Ray is started or stopped in vain")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fly",), "No such command 'fly'"),
        (("--fly",), "No such option.*--fly"),
        (("evaluate",), "Missing argument .*policy"),
        (
            ("evaluate", "no/such/folder"),
            "There is no checkpoint folder or exported policy no/such/folder",
        ),
        (("evaluate", ".", "--episodes", "0"), "--episodes 0 is not valid"),
        (("evaluate", ".", "--episodes", "few"), "--episodes"),
        (("evaluate", ".", "--seed", "-1"), "--seed -1 is not valid"),
        (("evaluate", "."), "is not a checkpoint of mnm"),
        (("report",), "Missing argument .*runs"),
        (("report", "."), "is not a run's folder: it has no run.json"),
        (("report", "no/such/folder"), "There is no run's folder no/such/folder"),
        (("inspect", "."), "Missing option '--data'"),
        (("inspect", ".", "--data", "."), "is not a checkpoint of mnm"),
    ],
)
def test_other_bad_input_gets_one_sentence(
    words: tuple[str, ...],
    sentence: str,
    mnm: Mnm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mnm(*words)
    assert_one_sentence(done)
    assert re.search(sentence, done.err), done.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "words", [("--help",), ("train", "--help"), ("evaluate", "--help"), ("report", "--help")]
)
def test_help_is_shown(words: tuple[str, ...], mnm: Mnm) -> None:
    done = mnm(*words)
    assert done.code == 0
    assert done.err == ""
    assert "Usage" in done.out


def test_the_command_alone_shows_what_there_is(mnm: Mnm) -> None:
    done = mnm()
    assert "train" in done.out + done.err
    assert "evaluate" in done.out + done.err
    assert "mnm:  " not in done.err


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
    assert_one_sentence(done)
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
    assert_one_sentence(done)
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
    assert_one_sentence(done)
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
