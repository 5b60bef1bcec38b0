"""Tests that an environment that raises is made anew, and ends the run if it always does."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distributed.failure import FAILURES_IN_A_ROW
from distributed.vector_env import EnvironmentFailed
from distributed.wire import from_arrow
from rllib_ext.env_runner import MnMEnvRunner
from rllib_ext.errors import UserError
from rllib_ext.evaluation import evaluate_policy
from tests.line_tasks import Raising
from tests.rllib_ext.small_checkpoints import write_checkpoint
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import built, replay_of

pytestmark = pytest.mark.usefixtures("local_ray")

TASK = "tests.line_tasks:Raising-v0"
# Spaces are given, so that no environment is made but by the runners.
SPACES = {"observation_space": Raising().observation_space, "action_space": Raising().action_space}
RESTARTS, DROPPED = "num_env_restarts_lifetime", "num_episodes_dropped_lifetime"


@pytest.fixture(autouse=True)
def none_made() -> None:
    Raising.made = 0


def config_of(restart: bool = True, envs: int = 1, num_env_runners: int = 0, **env_config: Any):
    return (
        tiny_config("sac", TASK, env_config=env_config, num_env_runners=num_env_runners)
        .environment(**SPACES)
        .env_runners(num_envs_per_env_runner=envs)
        .fault_tolerance(restart_failed_sub_environments=restart)
    )


def runner(**options: Any) -> MnMEnvRunner:
    config = config_of(**options).copy(copy_frozen=False)
    return MnMEnvRunner(config=config, worker_index=0, num_workers=0)


def test_the_steps_are_made_again_in_a_new_environment(caplog: pytest.LogCaptureFixture) -> None:
    made = runner(envs=2, times=1, length=4)
    first = from_arrow(made.collect_batch(None, 3, 0)[0])
    with caplog.at_level(logging.WARNING):
        batch, rows, metrics = made.collect_batch(None, 10, 6)
    second = from_arrow(batch)
    assert rows == len(second) == 2 * 8
    # One episode of each environment had ended in this request, and one of each was open.
    assert metrics[RESTARTS].peek() == 1
    assert metrics[DROPPED].peek() == 4
    assert not set(first.episode_ids.tolist()) & set(second.episode_ids.tolist())
    for episode in np.unique(second.episode_ids):
        steps = second.steps[second.episode_ids == episode]
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("rllib_ext")]
    assert warning == (
        f"The environment {TASK} failed with ValueError: the simulator is unstable: it is made "
        "anew."
    )
    assert RESTARTS not in made.collect_batch(None, 3, 26)[2]


def test_evaluation_goes_on_too() -> None:
    made = runner(times=2, length=10)
    (sampled,) = made.sample(num_episodes=3, explore=False)
    metrics = made.get_metrics()
    assert sampled.env_steps() == 30
    assert metrics["num_episodes"].peek() == 3
    assert metrics[RESTARTS].peek() == metrics[DROPPED].peek() == 2
    assert len(made.run_cut_episodes(2, 5)) == 2


def test_the_evaluation_of_a_saved_policy_goes_on_too(tmp_path: Path) -> None:
    """The one at a run's end among them, before the summary is written."""
    failing = {"length": 10, "limit": 1e9}
    checkpoint = write_checkpoint(tmp_path / "two", "Raising-v0", times=2, **failing)
    assert evaluate_policy(checkpoint, 3).length_mean == 10
    Raising.made = 0
    checkpoint = write_checkpoint(tmp_path / "many", "Raising-v0", times=99, **failing)
    sentence = "Raising-v0 failed 3 times in a row while .* was played, the last time with "
    with pytest.raises(UserError, match=sentence):
        evaluate_policy(checkpoint, 3)
    Raising.made = 0
    checkpoint = write_checkpoint(tmp_path / "one", "Raising-v0", made_again=False, **failing)
    with pytest.raises(UserError, match=r"Cannot make .* OSError: no licence for another"):
        evaluate_policy(checkpoint, 3)


def test_failures_in_a_row_end_it_in_one_sentence_that_names_the_error() -> None:
    made = runner(times=10**9, raises_at=3)
    with pytest.raises(RuntimeError, match=r"failed 3 times in a row.* unstable") as caught:
        made.collect_batch(None, 10, 0)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert Raising.made == 3
    with pytest.raises(RuntimeError, match="failed 4 times in a row"):
        made.collect_batch(None, 10, 0)


def test_failures_with_answers_between_them_go_on() -> None:
    made = runner(times=10**9, raises_at=7)
    for request in range(5):
        assert made.collect_batch(None, 5, 5 * request)[1] == 5
    assert Raising.made == 5


def test_an_environment_that_cannot_be_made_again_ends_it_likewise() -> None:
    made = runner(made_again=False)
    with pytest.raises(RuntimeError, match=r"3 times in a row.* OSError: no licence"):
        made.collect_batch(None, 10, 0)


def test_the_first_error_goes_up_where_restarts_are_off() -> None:
    made = runner(restart=False)
    with pytest.raises(ValueError, match="the simulator is unstable"):
        made.collect_batch(None, 10, 0)


def test_an_error_of_our_own_is_not_the_environments() -> None:
    made = runner(times=0)

    def fail(*words: Any) -> None:
        raise ZeroDivisionError

    made.collector.policy = fail
    with pytest.raises(ZeroDivisionError):
        made.sample(num_timesteps=3)
    assert Raising.made == 1


def check_ledger(algo: Any) -> None:
    counts = algo.coordinator.counts
    assert counts.steps_requested == (
        counts.steps_returned + counts.steps_lost + algo.coordinator.collectors.steps_open
    )


def test_a_run_in_this_process_goes_on_and_says_so() -> None:
    with built(config_of(times=1, length=10)) as algo:
        result = algo.train()
        assert result["env_runners"][RESTARTS] == result["env_runners"][DROPPED] == 1
        assert algo.train()["env_runners"][RESTARTS] == 1
        check_ledger(algo)
        assert len(replay_of(algo)) == algo.coordinator.counts.steps_returned


def test_a_run_in_this_process_ends_with_the_sentence() -> None:
    with (
        built(config_of(times=10**9, raises_at=3)) as algo,
        pytest.raises(RuntimeError, match="failed 3 times in a row"),
    ):
        algo.train()


def test_a_run_with_a_remote_runner_ends_with_the_sentence_too() -> None:
    with built(config_of(num_env_runners=1, times=10**9, raises_at=3)) as algo:
        with pytest.raises(EnvironmentFailed, match=r"failed \d times in a row"):
            algo.train()
        counts = algo.coordinator.counts
        assert counts.worker_failures == FAILURES_IN_A_ROW
        assert counts.worker_restarts == 0, "the process lives"


def test_a_run_with_a_remote_runner_goes_on_and_says_so() -> None:
    with built(config_of(num_env_runners=1, times=1, length=10)) as algo:
        results = [algo.train() for _ in range(2)]
        assert results[-1]["env_runners"][RESTARTS] == results[-1]["env_runners"][DROPPED] == 1
        assert results[-1]["worker_failures"] == 0
        check_ledger(algo)
        assert len(replay_of(algo)) == algo.coordinator.latest.env_steps
