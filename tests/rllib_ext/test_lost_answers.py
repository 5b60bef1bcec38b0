"""Tests of what the driver does where an actor that it asks gives no answer; without actors."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_ext.learner_group import close_learner
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import never_set_up


class Runners:
    """A group of evaluation runners, of which those in `healthy` are thought to be alive."""

    def __init__(self, remote: int, healthy: list[int], answers: list[Any]) -> None:
        self.remote, self.healthy, self.answers = remote, healthy, answers
        self.local_asked: list[bool] = []

    def num_remote_env_runners(self) -> int:
        return self.remote

    def healthy_worker_ids(self) -> list[int]:
        return self.healthy

    def foreach_env_runner(self, function: Any, *, local_env_runner: bool, **options: Any) -> Any:
        self.local_asked.append(local_env_runner)
        return self.answers


@pytest.mark.parametrize(
    ("healthy", "why"), [([], "all are known to be dead"), ([1], "the one asked dies meanwhile")]
)
def test_without_an_evaluation_runner_there_is_no_estimate(healthy: list[int], why: str) -> None:
    runners = Runners(remote=1, healthy=healthy, answers=[])
    algo = never_set_up(
        _settings=tiny_config("mnm").settings(),
        eval_env_runner_group=runners,
        coordinator=SimpleNamespace(
            latest=SimpleNamespace(updates=5, offline_updates=0, policy=None, env_steps=40)
        ),
    )
    estimate = algo._estimate_bound()
    assert estimate
    assert all(math.isnan(value) for value in estimate.values())
    assert len(runners.local_asked) == 1 + len(healthy), "the first call sends the weights"
    assert True not in runners.local_asked[1:]


@pytest.mark.parametrize(("output", "warns"), [("/logs", True), (None, False)])
def test_a_learner_too_busy_to_end_its_log_is_warned_of(
    output: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    group: Any = SimpleNamespace(foreach_learner=lambda question, timeout_seconds: iter(()))
    with caplog.at_level(logging.WARNING):
        close_learner(group, output)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == warns * [
        "The learner did not end its log within 5 seconds, so the last rows may be missing in "
        "/logs: save a checkpoint before stop(), which writes them all."
    ]
