"""Tests of how seldom dead actors are asked whether they are back, and of those that never are."""

from __future__ import annotations

import os
import pickle
import time
from typing import Any

import pytest
import ray

from distributed import failure
from distributed.failure import Seldom, errors_answered, raise_if_none_returns


def test_it_says_yes_at_once_and_then_after_each_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(failure.time, "monotonic", lambda: now)
    seldom = Seldom(2.0)
    answers = []
    for now in (100.0, 100.1, 101.9, 102.0, 103.9, 110.0, 111.9, 112.0):  # noqa: B007
        answers.append(seldom())
    assert answers == [True, False, False, True, False, True, False, True]


class SimulatorError(Exception):
    """Cannot be unpickled, as its arguments are not those of its constructor."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (ValueError("no such joint"), ValueError, "no such joint"),
        (SimulatorError(3, "contact lost"), RuntimeError, "SimulatorError: contact lost"),
        (OSError(2, "no", lambda: None), OSError, "[Errno 2] no"),
    ],
)
def test_any_error_arrives_at_the_driver(raised: Exception, kind: type, sentence: str) -> None:
    @errors_answered
    def fail() -> None:
        raise raised

    answer = pickle.loads(ray.cloudpickle.dumps(fail()))
    assert type(answer.error) in (kind, *kind.__subclasses__())
    assert str(answer.error).startswith(sentence)


@ray.remote(num_cpus=0)
class Mortal:
    """An actor that takes its time to start.

    Args:
        seconds: that it takes.
    """

    def __init__(self, seconds: float) -> None:
        time.sleep(seconds)

    def ping(self) -> str:
        return "pong"

    def end(self) -> None:
        os._exit(1)


def dead(max_restarts: int, seconds: float = 0.0) -> Any:
    actor = Mortal.options(max_restarts=max_restarts).remote(seconds)
    ray.get(actor.ping.remote())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.end.remote())
    return actor


@pytest.mark.usefixtures("local_ray")
def test_only_actors_that_all_stay_dead_end_a_run(caplog: pytest.LogCaptureFixture) -> None:
    gone = [dead(max_restarts=0), dead(max_restarts=0)]
    with pytest.raises(RuntimeError, match="All collectors are dead and Ray restarts none"):
        raise_if_none_returns("collectors", gone)
    assert "died unexpectedly" in caplog.text
    alive = Mortal.remote(0.0)
    ray.get(alive.ping.remote())
    raise_if_none_returns("collectors", [*gone, alive])
    restarted = dead(max_restarts=1, seconds=3.0)
    raise_if_none_returns("collectors", [*gone, restarted])
