"""Tests that a run's events are marked in Grafana, and that no failure there disturbs a run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_ext.errors import UserError
from rllib_ext.run_annotations import RunAnnotations, run_annotations
from rllib_ext.run_folder import STEPS_COLUMN, SUMMARY_FILE
from tests.cluster.commands import LINE, Mnm
from tests.cluster.grafana_server import TOKEN, Fault, GrafanaServer


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAFANA_URL", "GRAFANA_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)


@pytest.fixture
def server() -> Iterator[GrafanaServer]:
    with GrafanaServer(role="Editor") as running:
        yield running


def callback(server: GrafanaServer) -> RunAnnotations:
    (built,) = run_annotations(server.url, True, "run-7", "mnm on Line-v0")
    assert isinstance(built, RunAnnotations)
    return built


def trial(steps: int, status: str = "TERMINATED") -> Any:
    return SimpleNamespace(last_result={STEPS_COLUMN: steps}, status=status)


def play(marks: RunAnnotations, status: str = "TERMINATED") -> None:
    running = trial(50)
    marks.on_trial_start(0, [running], running)
    marks.on_checkpoint(1, [running], running, None)
    marks.on_trial_start(1, [running], running)
    marks.on_experiment_end([trial(100, status)])


def test_every_event_is_marked_in_its_order(server: GrafanaServer) -> None:
    play(callback(server))
    assert [(mark["tags"], mark["text"]) for mark in server.annotations] == [
        (["mnm", "start", "run-7"], "mnm on Line-v0: starts"),
        (["mnm", "checkpoint", "run-7"], "mnm on Line-v0: checkpoint at 50 real steps"),
        (["mnm", "start", "run-7"], "mnm on Line-v0: goes on after a failure"),
        (["mnm", "end", "run-7"], "mnm on Line-v0: ended at 100 real steps"),
    ]
    times = [mark["time"] for mark in server.annotations]
    assert times == sorted(times)


def test_a_run_that_failed_is_marked_so(server: GrafanaServer) -> None:
    play(callback(server), "ERROR")
    assert server.annotations[-1]["text"].endswith("failed at 100 real steps")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_failure_is_said_once(
    status: int, server: GrafanaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda method, path: Fault(status, '{"message": "no"}')
    play(callback(server))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mnm: the run goes on, without its marks in Grafana: ")
    assert TOKEN not in line


def test_nobody_there_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with GrafanaServer() as server:
        marks = callback(server)
    play(marks)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_wrong_stops_only_a_run_that_asked_for_it(
    server: GrafanaServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_annotations(None, False, "run", "title") == []
    monkeypatch.delenv("GRAFANA_TOKEN")
    assert run_annotations(server.url, False, "run", "title") == []
    assert "no Grafana token" in capsys.readouterr().err
    with pytest.raises(UserError, match="no Grafana token"):
        run_annotations(server.url, True, "run", "title")
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    with pytest.raises(UserError, match="is not valid"):
        run_annotations("grafana", True, "run", "title")


def test_a_pickled_callback_has_no_token(server: GrafanaServer) -> None:
    marks = callback(server)
    marks.on_trial_start(0, [], trial(0))
    content = pickle.dumps(marks)
    assert TOKEN.encode() not in content
    play(pickle.loads(content))  # posts nothing
    marks.on_experiment_end([])
    assert len(server.annotations) == 1


def test_a_run_of_mnm_train_marks_itself(
    mnm: Mnm, tiny: Path, tmp_path: Path, server: GrafanaServer
) -> None:
    run = tmp_path / "my-run"
    local = ("--num-env-runners", 0, "--num-rollout-workers", 0)
    words = ("--env", LINE, "--algo", "sac", "--steps", 40, "--evaluation-interval", 20)
    marked = ("--grafana-url", server.url, "--output", run)
    done = mnm("train", *words, *local, "--config", tiny, *marked)
    assert done.code == 0, done.err
    assert [mark["tags"] for mark in server.annotations][:1] == [["mnm", "start", "my-run"]]
    assert server.annotations[-1]["tags"] == ["mnm", "end", "my-run"]
    steps = json.loads((run / SUMMARY_FILE).read_text())["env_steps"]
    assert server.annotations[-1]["text"].endswith(f"ended at {steps} real steps")
    assert {mark["tags"][1] for mark in server.annotations} == {"start", "checkpoint", "end"}
    assert server.url not in (run / "run.json").read_text()
    leaked = [
        file for file in run.rglob("*") if file.is_file() and TOKEN in file.read_text("latin1")
    ]
    assert leaked == []
