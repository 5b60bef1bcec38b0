"""Tests of the table of metrics, of the page written from it, and of how they are set."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from distributed import gpu_use, telemetry_export
from distributed.flow import FlowCounts
from distributed.gpu_use import GpuUse
from distributed.learner_core import TurnReport
from distributed.telemetry import BY_NAME, METRICS, Metric, prometheus_name
from distributed.telemetry_export import Telemetry
from distributed.telemetry_page import page
from tests.distributed.scripted_flow import Flow

ROOT = Path(__file__).resolve().parents[2]


class RecordedGauge:
    """In the place of Ray's: keeps what is set, and refuses what Ray's refuses."""

    values: dict[tuple[str, str], float]  # by name and tags

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name = name
        self.tag_keys = tag_keys

    def set(self, value: Any, tags: dict[str, str]) -> None:
        assert isinstance(value, int | float)
        assert set(tags) == set(self.tag_keys)
        assert all(isinstance(tag, str) for tag in tags.values())
        shown = ",".join(tags[key] for key in self.tag_keys if tags[key])
        self.values[self.name, shown] = value


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float]:
    RecordedGauge.values = {}
    monkeypatch.setattr(telemetry_export, "Gauge", RecordedGauge)
    return RecordedGauge.values


def report(**changes: Any) -> TurnReport:
    """One of a turn of ten real steps."""
    values: dict[str, Any] = {
        "version": 3,
        "env_steps": 10,
        "updates": 10,
        "synthetic_transitions": 0,
        "lost_real": [],
        "policy": None,
        "model": None,
        "rollout_requests": [],
        "statistics": {},
    }
    return TurnReport(**{**values, **changes})


def test_the_page_is_what_the_table_says() -> None:
    told = "run: python -m distributed.telemetry_page > docs/metrics.md"
    assert (ROOT / "docs" / "metrics.md").read_text() == page(), told


def test_every_name_is_one_that_prometheus_takes_and_there_once() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"mnm_[a-z][a-z_]*[a-z]", metric.name)
        assert metric.series, metric.name
        for tags in metric.series.values():
            assert "role" in tags, metric.name
            assert set(tags) <= set(metric.labels)
    assert prometheus_name("mnm_env_steps") == "ray_mnm_env_steps"
    counter = Metric("mnm_events", "", "", kind="counter")
    assert prometheus_name(counter) == "ray_mnm_events_total"


def test_only_known_numbers_are_set_and_each_under_its_tags(
    recorded: dict[tuple[str, str], float],
) -> None:
    telemetry = Telemetry("hopper", Clock())
    telemetry.note({"classifier_accuracy": math.nan, "alpha": 0.25, "no_such_figure": 1.0})
    telemetry.note({"training/episode_return_mean": 5.0, "evaluation/episode_return_mean": 7.0})
    telemetry.note_turn(report(env_steps=120, figures={"replay_real": 110}))
    telemetry.set({("collector", 2): 60, ("rollout_worker", 1): 900})
    assert recorded == {
        ("mnm_temperature", "hopper,learner"): 0.25,
        ("mnm_episode_return_mean", "hopper,collector"): 5.0,
        ("mnm_episode_return_mean", "hopper,evaluation"): 7.0,
        ("mnm_env_steps", "hopper,learner"): 120,
        ("mnm_replay_transitions", "hopper,learner,real"): 110,
        ("mnm_weights_age_seconds", "hopper,learner"): 0.0,
        ("mnm_worker_transitions", "hopper,collector,2"): 60,
        ("mnm_worker_transitions", "hopper,rollout_worker,1"): 900,
    }


def test_a_figure_that_is_no_number_any_more_is_not_set_again(
    recorded: dict[tuple[str, str], float],
) -> None:
    clock = Clock()
    telemetry = Telemetry("hopper", clock)
    for value in (1.0, math.nan):
        recorded.clear()
        telemetry.note({"critic_loss": value})
        telemetry.set({})
        clock.seconds += 1
    assert recorded == {}


def test_metrics_are_set_once_a_second_whether_or_not_there_is_news(
    recorded: dict[tuple[str, str], float],
) -> None:
    clock = Clock()
    telemetry = Telemetry("hopper", clock)
    telemetry.note_turn(report())
    telemetry.set({})
    recorded.clear()
    clock.seconds += 0.9
    telemetry.set({})
    assert not recorded
    clock.seconds += 0.2
    telemetry.set({})
    assert recorded["mnm_env_steps", "hopper,learner"] == 10
    assert recorded["mnm_weights_age_seconds", "hopper,learner"] == pytest.approx(1.1)


def time_shares(recorded: dict[tuple[str, str], float]) -> dict[str, float]:
    return {
        tags.rpartition(",")[2]: value
        for (name, tags), value in recorded.items()
        if name == "mnm_learner_time_ratio"
    }


def test_time_shares_are_of_all_turns_whether_or_not_they_were_set_between(
    recorded: dict[tuple[str, str], float],
) -> None:
    clock = Clock()
    telemetry = Telemetry("hopper", clock)
    for turns in (1, 3):
        for _ in range(turns):
            seconds = {"ingest": 0.1, "fit": 0.2, "update": 0.4 * turns}
            telemetry.note_turn(report(seconds=seconds, idle_s=0.3))
        telemetry.set({})
        clock.seconds += 1
    shares = time_shares(recorded)
    seconds = {"ingest": 0.4, "fit": 0.8, "imagine": 0, "update": 4.0, "publish": 0, "idle": 1.2}
    assert shares == pytest.approx({part: value / 6.4 for part, value in seconds.items()})
    assert recorded["mnm_learner_idle_ratio", "hopper,learner"] == shares["idle"]


@pytest.mark.parametrize("first_scrape", range(10))
def test_a_scrape_every_ten_seconds_sees_the_evaluations_between(
    first_scrape: int, recorded: dict[tuple[str, str], float]
) -> None:
    """Ten seconds of turns and twenty of evaluation, in which nothing is set."""
    clock = Clock()
    telemetry = Telemetry("hopper", clock)
    turn_s, seen = 0.5, []
    for half_second in range(2 * 600):
        time, at = half_second / 2, half_second % 60
        clock.seconds = 100 + time
        if at < 20:
            idle = 20.0 if at == 0 and time > 0 else 0.0
            telemetry.note_turn(report(seconds={"update": turn_s}, idle_s=idle))
            telemetry.set({})
        if time % 10 == first_scrape and time >= 60:
            seen.append(recorded["mnm_learner_idle_ratio", "hopper,learner"])
    assert len(seen) == 54
    assert seen == pytest.approx([2 / 3] * len(seen), abs=0.02)


def test_time_shares_forget_what_was_more_than_a_minute_ago(
    recorded: dict[tuple[str, str], float],
) -> None:
    clock = Clock()
    telemetry = Telemetry("hopper", clock)
    telemetry.note_turn(report(seconds={"fit": 300.0}))
    telemetry.set({})
    shares = []
    for _ in range(70):
        clock.seconds += 1
        telemetry.note_turn(report(seconds={"update": 1.0}))
        telemetry.set({})
        shares.append(time_shares(recorded)["fit"])
    assert shares[:59] == pytest.approx([300 / (301 + i) for i in range(59)])
    assert shares[59:] == [0.0] * 11


def test_queues_and_what_each_worker_handed_over() -> None:
    """A learner that takes three waits: batches and imagined transitions pile up meanwhile."""
    lengths = []

    def advance(flow: Flow) -> None:
        for kind, request in flow.open_events():
            if kind != "turn" or flow.waits % 3 == 0:
                flow.happen(kind, request)

    flow = Flow(num_collectors=2, num_workers=1, steps=10, max_weight_lag=200, advance=advance)
    for _ in range(12):
        flow.coordinator.turn()
        queues = flow.coordinator.queue_lengths()
        lengths.append(queues)
        assert queues["queue_collected"] == len(flow.learner.open[0].arguments["real"])
        assert queues["queue_imagined"] == len(flow.learner.open[0].arguments["synthetic"])
        assert queues["queue_collect_requests"] == len(flow.collectors.open)
    assert max(queues["queue_collected"] for queues in lengths) > 1
    assert max(queues["queue_imagined"] for queues in lengths) > 0
    assert max(queues["queue_rollout_requests"] for queues in lengths) > 0
    handed_over = flow.coordinator.handed_over
    assert handed_over["collector", 1] + handed_over["collector", 2] == flow.returned
    assert min(handed_over["collector", 1], handed_over["collector", 2]) > 0
    assert handed_over["rollout_worker", 0] > 0


def test_statistics_that_are_no_finite_number_are_counted() -> None:
    counts = FlowCounts()
    counts.note_non_finite({"critic_loss": math.nan, "q_value": -math.inf, "alpha": 0.1})
    counts.note_non_finite({"critic_loss": math.nan})
    assert counts.non_finite_statistics == 3


def test_a_gpu_is_asked_once_a_second_and_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GpuUse(torch.device("cpu"))() == {"gpu_memory_bytes": 0.0, "gpu_utilization": 0.0}
    asked = []

    def reserved(device: torch.device) -> int:
        asked.append(device)
        return 2**30

    clock = Clock()
    monkeypatch.setattr(gpu_use.time, "monotonic", clock)
    monkeypatch.setattr(torch.cuda, "memory_reserved", reserved)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 37)
    use = GpuUse(torch.device("cuda"))
    for _ in range(5):
        assert use() == {"gpu_memory_bytes": 2.0**30, "gpu_utilization": 0.37}
    assert len(asked) == 1

    def refuses(device: torch.device) -> int:
        raise ModuleNotFoundError("pynvml is not there")

    monkeypatch.setattr(torch.cuda, "utilization", refuses)
    clock.seconds += 1
    assert math.isnan(use()["gpu_utilization"])
