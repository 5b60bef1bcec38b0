"""Tests of what a run shows: plain lines for a file or a pipe, a live panel on a terminal, JSON."""

from __future__ import annotations

import html
import io
import json
import math
import os
import pty
import runpy
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from distributed.storage import Location
from rllib_ext import MnMConfig
from rllib_ext.health import Health
from rllib_ext.progress import JsonLines, ProgressDisplay, sparkline
from rllib_ext.run_plan import RunPlan
from tests.rllib_ext.scripted_results import result

DRAW = Path(__file__).resolve().parents[2] / "docs" / "terminal_image.py"
NAN = math.nan
FIRST = result(
    1,
    num_updates_lifetime=0,
    model_holdout_rmse=NAN,
    classifier_accuracy=NAN,
    waited_for_steps_s=8.0,
    waited_for_lag_s=1.0,
)
SECOND = result(
    2,
    num_updates_lifetime=100,
    waited_for_steps_s=8.5,
    waited_for_lag_s=1.0,
    evaluation__env_runners__episode_return_mean=9.25,
)
SATURATED = [result(iteration, classifier_accuracy=0.98) for iteration in (1, 2, 3, 4, 5)]


def health() -> Health:
    config = MnMConfig().environment("Pendulum-v1").env_runners(num_env_runners=2)
    return Health(config.training(num_rollout_workers=1))


def run_display(results: list[dict[str, Any]]) -> None:
    display = ProgressDisplay("mnm on Line-v0, seed 0", 300, health(), max_weight_lag=250)
    display.setup()
    for iteration, each in enumerate(results):
        display.on_trial_result(iteration, [], None, each)
    display.on_experiment_end([])
    display.stop()


def piped(monkeypatch: pytest.MonkeyPatch, results: list[dict[str, Any]]) -> list[str]:
    """The lines that a display of `results` writes to a file or a pipe."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    run_display(results)
    assert "\x1b" not in out.getvalue()
    return out.getvalue().splitlines()


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, results: list[dict[str, Any]], encoding: str = "utf-8"
) -> str:
    """What a display of `results` writes to a pseudo-terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    reading, writing = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(reading, 4096):
                written.append(part)
        except OSError:  # the other side is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    with open(writing, "w", encoding=encoding, errors="replace") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run_display(results)
        monkeypatch.undo()
    reader.join(timeout=30)
    os.close(reading)
    return b"".join(written).decode(encoding)


def test_off_a_terminal_there_is_one_plain_line_an_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = piped(monkeypatch, [FIRST, SECOND])
    assert lines == [
        "mnm on Line-v0, seed 0: 300 steps",
        "steps 100  return 1.5  training return 3.0  steps/s 10.0  learner idle 90%  weight lag 20",
        "steps 200  return 9.2  training return 3.0  steps/s 10.0  updates/s 10  learner idle 5%  "
        "model error 0.125  classifier accuracy 0.75  weight lag 20  time left 0.2 min",
    ]


def test_what_is_not_known_yet_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert piped(monkeypatch, [{"num_env_steps_sampled_lifetime": 10.0}])[1:] == ["steps 10"]


def test_a_run_that_goes_on_from_a_checkpoint_has_no_negative_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = piped(monkeypatch, [result(2), result(1, num_updates_lifetime=50), result(2)])
    assert ["updates/s" in line for line in lines] == [False, False, False, True]


def test_a_warning_is_a_line_of_its_own_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = piped(monkeypatch, SATURATED)
    (place,) = (place for place, line in enumerate(lines) if "saturated" in line)
    assert lines[place].startswith("warning: classifier saturated: it tells 98%")
    assert lines[place - 1].startswith("steps 300")
    assert len(lines) == 7


def test_on_a_terminal_there_is_a_live_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_a_terminal(monkeypatch, [FIRST, SECOND])
    for part in (
        "mnm on Line-v0, seed 0",
        "200/300 steps",
        "67%",
        "9.2  ▁█",
        "20 of 250 steps",
        "10.0 real steps/s, 10 updates/s, learner idle 5%",
        "held-out error 0.125",
        "accuracy 0.75, logit +0.50 real, -0.25 imagined",
        "estimate 4.00 nats, log return 5.00",
        "2 collecting, 1 imagining, 0 restarts",
        "0.2 min",
    ):
        assert part in text
    assert "warning" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") >= 1  # the cursor comes back


def test_on_a_terminal_a_warning_stands_above_the_panel_and_its_name_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = on_a_terminal(monkeypatch, SATURATED)
    assert text.count("warning: classifier saturated: it tells 98%") == 1
    last_panel = text.rsplit("return", 2)[-1]
    assert "classifier saturated" in last_panel


def test_a_terminal_without_blocks_gets_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_a_terminal(monkeypatch, [FIRST, SECOND], encoding="latin-1")
    assert "9.2" in text
    assert "?" not in text.replace("\x1b[?", "")


def test_a_run_in_one_process_shows_no_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = result(1, num_healthy_collectors=0, num_healthy_rollout_workers=0)
    text = on_a_terminal(monkeypatch, [alone])
    assert "held-out error" in text
    assert "collecting" not in text


def test_stopping_twice_or_before_the_start_does_no_harm() -> None:
    display = ProgressDisplay("title", 10, health(), max_weight_lag=250)
    display.stop()
    display.stop()
    assert display._live is None


def test_json_has_every_figure_on_a_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines(300, health())
    for iteration, each in enumerate([FIRST, *SATURATED[1:4]]):
        lines.on_trial_result(iteration, [], None, each)
    tables = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [table["type"] for table in tables] == ["iteration"] * 4
    assert [table["env_steps"] for table in tables] == [100, 200, 300, 400]
    assert {type(table["env_steps"]) for table in tables} == {int}
    assert tables[0]["classifier_accuracy"] is None
    assert tables[0]["learner_idle_share"] == 0.9
    assert tables[1]["updates_per_s"] == 200.0
    assert [table["faults"] for table in tables] == [[], [], [], ["classifier saturated"]]
    (warning,) = tables[3]["warnings"]
    assert set(warning) == {"name", "sentence", "advice"}
    assert all(table.keys() == tables[0].keys() for table in tables)


def test_the_picture_of_the_docs_is_of_a_runs_last_panel(tmp_path: Path) -> None:
    plan = RunPlan("Pendulum-v1", "mnm", {}, 300, num_env_runners=2, num_rollout_workers=1)
    plan.save(Location.of(tmp_path))
    (tmp_path / "result.json").write_text("".join(json.dumps(r) + "\n" for r in (FIRST, SECOND)))
    runpy.run_path(str(DRAW))["draw"](tmp_path, tmp_path / "panel.svg")
    text = html.unescape((tmp_path / "panel.svg").read_text()).replace("\xa0", " ")
    assert text.startswith("<svg")
    assert "9.2  ▁█" in text
    assert "200/300 steps" in text
    assert "0:00:20" in text
    assert "@font-face" not in text


def test_a_sparkline_spans_lowest_to_highest() -> None:
    assert sparkline([0.0, 7.0, 3.0]) == "▁█▄"
    assert sparkline([5.0]) == "▁"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([100.0, *range(8)], width=8) == "▁▂▃▄▅▆▇█"
