"""Tests of what the driver does where an actor that it asks gives no answer, and at a run's end."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from rllib_ext import interruption
from rllib_ext.actors import end_hanging
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
    group: Any = SimpleNamespace(
        foreach_learner=lambda question, healthy_only, timeout_seconds: iter(())
    )
    with caplog.at_level(logging.WARNING):
        close_learner(group, output)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == warns * [
        "The learner did not end its log within 5 seconds, so the last rows may be missing in "
        "/logs: save a checkpoint before stop(), which writes them all."
    ]


@ray.remote(num_cpus=0)
class Runner:
    """Answers, unless it is in an environment that blocks."""

    def ping(self) -> str:
        return "pong"

    def block(self) -> None:
        time.sleep(600)


@pytest.mark.usefixtures("local_ray")
def test_a_runner_that_hangs_does_not_keep_a_run_from_its_end() -> None:
    hanging, free = Runner.remote(), Runner.remote()
    ray.get([hanging.ping.remote(), free.ping.remote()])
    blocked = hanging.block.remote()
    manager = SimpleNamespace(actors=lambda: {1: hanging, 2: free})
    group: Any = SimpleNamespace(_worker_manager=manager)
    end_hanging(group, None)  # requests may take as long as they like
    assert ray.wait([blocked], timeout=0.1)[1] == [blocked]
    end_hanging(group, 0.5)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(blocked)
    assert ray.get(free.ping.remote()) == "pong"
    ray.kill(free)
    end_hanging(group, 60.0)  # both are gone
    manager.actors = dict  # there are none
    end_hanging(group, 60.0)


def refuse() -> None:
    raise OSError("out of reach")


def hang() -> None:
    time.sleep(600)


@pytest.mark.parametrize("what_fails", ["ask_to_stop", "give_up"])
@pytest.mark.parametrize("how", [refuse, hang])
def test_a_run_that_does_not_end_is_ended_also_where_nothing_can_be_reached(
    how: Callable[[], None], what_fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket, or Ray's head, that is gone when the signal comes."""
    codes: list[int] = []
    done: list[str] = []
    monkeypatch.setattr(interruption, "LEAVE_AFTER_S", 0.1)
    monkeypatch.setattr(interruption, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(interruption.os, "_exit", codes.append)
    calls = {name: partial(done.append, name) for name in ("ask_to_stop", "give_up")}
    calls[what_fails] = how
    monkeypatch.setattr(interruption, "ask_to_stop", calls["ask_to_stop"])
    stopping = interruption.Interruption(calls["give_up"])
    stopping.received = signal.SIGTERM
    stopping._stop()
    assert codes == [143]
    assert done == [name for name in calls if name != what_fails]
