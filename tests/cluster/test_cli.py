"""Tests of the `mnm` command: its help, and one sentence for bad input that is seen at once."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.tune.registry import ENV_CREATOR, _global_registry

from tests.cluster.commands import LINE, TASKS, Mnm, assert_one_sentence

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
    "timeline that is a folder": ((*LINE_RUN, "--trace", "/"), "--trace / is a folder"),
    "return that is no number": (
        (*LINE_RUN, "--stop-return", "nan"),
        "--stop-return nan is not valid",
    ),
    "endless resources": (
        (*LINE_RUN, "--num-rollout-workers", 1, "--set", "num_cpus_per_rollout_worker=.inf"),
        "num_cpus_per_rollout_worker=inf is not valid",
    ),
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


@pytest.mark.usefixtures("local_ray")
def test_a_run_that_would_only_act_at_random_says_so(mnm: Mnm, tmp_path: Path) -> None:
    words = ("train", "--env", LINE, "--set", "num_random_steps=50", "--output", tmp_path / "run")
    sentence = "mnm: all 50 real steps are random, as num_random_steps=50"
    for steps, told in ((50, sentence), (51, "")):
        done = mnm(*words, "--num-env-runners", 1, "--steps", steps, "--dry-run")
        assert done.code == 0
        assert done.err.startswith(told)
        assert bool(done.err) == bool(told)


@pytest.mark.parametrize("placement", ["pack", "roles"])
@pytest.mark.usefixtures("local_ray")
def test_a_dry_run_without_a_cluster_does_not_say_that_it_fits(
    placement: str, mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ray of its own would have whatever is asked for."""
    _global_registry.contains(ENV_CREATOR, LINE)  # as above
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", no_start)
    monkeypatch.setattr(ray, "shutdown", no_start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = ("--placement", placement, "--num-env-runners", 500, "--output", tmp_path / "run")
    done = mnm("train", "--env", LINE, *words, "--dry-run")
    assert_one_sentence(done)
    assert "No cluster is named" in done.err
    assert "500 x environment runner" in done.out
    assert "fits" not in done.out
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
