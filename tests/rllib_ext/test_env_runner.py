"""Tests of the EnvRunner in this process: batches, modes, metrics, state, seeds, hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_AGENT_ID, DEFAULT_MODULE_ID
from ray.rllib.utils import metrics as names
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from distributed.wire import from_arrow
from mnm import Transitions
from mnm.policy import TanhGaussianPolicy, numpy_weights
from rllib_ext.env_runner import MnMEnvRunner, SampledSteps
from tests.line_tasks import HIGH, LOW
from tests.rllib_ext.small_configs import tiny_config

pytestmark = pytest.mark.usefixtures("local_ray")


def runner(worker_index: int = 0, envs: int = 1, **options: Any) -> MnMEnvRunner:
    """As RLlib makes one; index 0 is the local one."""
    hooks = options.pop("hooks", {})
    config = tiny_config(**options).env_runners(num_envs_per_env_runner=envs).callbacks(**hooks)
    return MnMEnvRunner(
        config=config.copy(copy_frozen=False), worker_index=worker_index, num_workers=2
    )


def weights(seed: int) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    return numpy_weights(TanhGaussianPolicy(3, np.array([LOW]), np.array([HIGH]), (16, 16)))


def rows_of(answer: tuple[list[Any], int, Any]) -> Transitions:
    (reference,), count, _ = answer
    transitions = from_arrow(ray.get(reference))
    assert len(transitions) == count
    return transitions


def test_collect_hands_over_a_reference_and_a_count() -> None:
    (reference,), count, metrics = runner().collect(None, 15, 0)
    assert isinstance(reference, ray.ObjectRef)
    assert isinstance(count, int)
    assert count == ray.get(reference).num_rows
    assert metrics[names.NUM_ENV_STEPS_SAMPLED].peek() == count


def test_without_weights_actions_are_random_and_with_them_the_policys() -> None:
    made = runner(env_config={"limit": 1e9, "length": 10**6})
    rows = rows_of(made.collect(None, 300, 0))
    assert rows.actions.std() > 1.0
    certain = weights(0)
    certain["layers.2.bias"] = np.array([100.0, -100.0], np.float32)  # mean, log of deviation
    rows = rows_of(made.collect([ray.put(certain)], 20, 300))
    np.testing.assert_allclose(rows.actions, HIGH, rtol=1e-5)


def test_weights_are_fetched_once_for_each_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    made = runner()
    first, second = ray.put(weights(0)), ray.put(weights(1))
    fetched: list[Any] = []
    plain_get = ray.get
    monkeypatch.setattr(ray, "get", lambda what: fetched.append(what) or plain_get(what))
    for reference in (first, first, second, second):
        made.collect([reference], 2, 0)
    assert fetched == [first, second]


def test_rllibs_own_metric_names_are_there() -> None:
    metrics = runner(env_config={"length": 5, "limit": 1e9}).collect(None, 24, 0)[2]
    assert metrics[names.NUM_ENV_STEPS_SAMPLED_LIFETIME].peek() == 20
    assert metrics[names.NUM_EPISODES].peek() == 4
    assert metrics[names.EPISODE_LEN_MEAN].peek() == 5
    low, mean, high = (
        metrics[name].peek()
        for name in (
            names.EPISODE_RETURN_MIN,
            names.EPISODE_RETURN_MEAN,
            names.EPISODE_RETURN_MAX,
        )
    )
    assert 0 < low < mean < high <= 5


def test_metrics_of_many_requests_sum_up_in_the_algorithms_logger() -> None:
    """As `Algorithm` aggregates and compiles them, beside what a callback logged."""
    made = runner(
        envs=2,
        env_config={"length": 5, "limit": 1e9},
        hooks={"on_sample_end": lambda metrics_logger, **_: metrics_logger.log_value("own", 3.0)},
    )
    logger = MetricsLogger(root=True)
    for _ in range(4):
        logger.aggregate([made.collect(None, 9, 0)[2]], key="env_runners")
    compiled = logger.compile()["env_runners"]
    assert compiled[names.NUM_ENV_STEPS_SAMPLED] == 4 * 2 * 9 - 2 * 6
    assert compiled[names.NUM_ENV_STEPS_SAMPLED_LIFETIME] == 4 * 2 * 9 - 2 * 6
    assert f"{names.NUM_ENV_STEPS_SAMPLED_LIFETIME}_throughput" in compiled
    assert compiled[names.NUM_AGENT_STEPS_SAMPLED_LIFETIME] == {DEFAULT_AGENT_ID: 60}
    assert compiled[names.NUM_EPISODES] == compiled[names.NUM_EPISODES_LIFETIME] == 2 * 6
    assert compiled[names.EPISODE_LEN_MIN] == compiled[names.EPISODE_LEN_MAX] == 5
    low, mean, high = (
        compiled[name]
        for name in (names.EPISODE_RETURN_MIN, names.EPISODE_RETURN_MEAN, names.EPISODE_RETURN_MAX)
    )
    assert 0 < low < mean < high <= 5
    assert compiled["own"] == 3.0
    assert made.get_metrics()[names.NUM_ENV_STEPS_SAMPLED].peek() == 0


def test_the_mean_return_is_of_the_episodes_however_the_answers_split_them() -> None:
    made = runner(env_config={"length": 5, "limit": 1e9})
    logger = MetricsLogger(root=True)
    episodes, means = [], []
    for rows in (24, 6):
        metrics = made.collect(None, rows, 0)[2]
        episodes.append(metrics[names.NUM_EPISODES].peek())
        means.append(metrics[names.EPISODE_RETURN_MEAN].peek())
        logger.aggregate([metrics], key="env_runners")
    assert episodes == [4, 1]
    mean = logger.compile()["env_runners"][names.EPISODE_RETURN_MEAN]
    assert mean == pytest.approx(np.average(means, weights=episodes))
    assert mean != pytest.approx(np.mean(means))


def test_sample_counts_episodes_or_steps() -> None:
    made = runner(envs=2, env_config={"length": 5, "limit": 1e9})
    (sampled,) = made.sample(num_episodes=3, explore=False)
    assert isinstance(sampled, SampledSteps)
    assert sampled.env_steps() == sampled.agent_steps() > 15
    assert made.get_metrics()[names.NUM_EPISODES].peek() == 3
    made.sample(num_timesteps=7, force_reset=True)
    assert made.get_metrics()[names.NUM_ENV_STEPS_SAMPLED].peek() == 8
    made.sample(num_timesteps=2.3, force_reset=True)  # RLlib's estimate where that is "auto"
    assert made.get_metrics()[names.NUM_ENV_STEPS_SAMPLED].peek() == 4


def test_a_runner_that_is_asked_for_no_episode_plays_none() -> None:
    """RLlib asks so where there are more runners than episodes."""
    made = runner()
    (sampled,) = made.sample(num_episodes=0)
    assert sampled.env_steps() == 0
    assert made.get_metrics()[names.NUM_EPISODES].peek() == 0


def test_open_episodes_that_an_evaluation_drops_are_counted() -> None:
    made = runner(envs=2, env_config={"length": 5, "limit": 1e9})
    made.sample(num_timesteps=6)
    made.sample(num_episodes=2)
    made.sample(num_episodes=2)  # none was left open
    assert made.get_metrics()["num_episodes_dropped_lifetime"].peek() == 2


@pytest.mark.parametrize(
    ("arguments", "spread"),
    [
        ({"explore": False}, "none"),
        ({}, "some"),  # the config explores unless it is an evaluation's
        ({"explore": True}, "some"),
        ({"explore": False, "random_actions": True}, "uniform"),
    ],
)
def test_sample_explores_as_it_is_told(arguments: dict[str, Any], spread: str) -> None:
    actions: list[np.ndarray] = []

    def note_action(episode: Any, **info: Any) -> None:
        actions.append(episode.get_actions(-1))

    made = runner(
        env_config={"limit": 1e9, "length": 10**6}, hooks={"on_episode_step": note_action}
    )
    one_mean = weights(0)
    one_mean["layers.2.weight"] = np.zeros_like(one_mean["layers.2.weight"])
    one_mean["layers.2.bias"] = np.array([0.0, 0.0], np.float32)
    made.module.policy.load_state_dict({k: torch.tensor(v) for k, v in one_mean.items()})
    made.set_state({COMPONENT_RL_MODULE: made.module.get_state()})
    made.sample(num_timesteps=200, **arguments)
    deviation = np.std(actions)
    if spread == "none":
        np.testing.assert_allclose(np.array(actions), (LOW + HIGH) / 2, atol=1e-5)
    elif spread == "uniform":
        assert deviation == pytest.approx((HIGH - LOW) / np.sqrt(12), rel=0.15)
    else:
        assert 0 < deviation < (HIGH - LOW) / np.sqrt(12) * 0.7


def test_state_goes_from_one_runner_to_another() -> None:
    first, second = runner(seed=0), runner(seed=1)
    first.collect(None, 5, 0)
    assert not same_policy(first, second)
    second.set_state(state=first.get_state())
    assert same_policy(first, second)
    assert second.num_env_steps_sampled_lifetime == first.num_env_steps_sampled_lifetime > 0


def test_state_acts_at_once() -> None:
    first, second = (runner(seed=seed, env_config={"limit": 1e9}) for seed in (0, 1))
    first.collect([ray.put(weights(0))], 1, 0)
    state = second.get_state()
    first.set_state(state=state)
    acted = first._collector().policy
    assert acted is not None
    observations = np.ones((4, 3), np.float32)
    with torch.no_grad():
        expected = second.module.policy.deterministic(torch.tensor(observations)).numpy()
    np.testing.assert_allclose(acted(observations, None), expected, rtol=1e-4, atol=1e-5)


def test_earlier_weights_are_taken_as_well_as_newer_ones() -> None:
    """A live restore goes back: the version of the weights falls."""
    made, earlier, later = runner(seed=0), runner(seed=1), runner(seed=2)
    for source, version in ((later, 12), (earlier, 3)):
        state = source.get_state()
        state[names.WEIGHTS_SEQ_NO] = version
        made.set_state(state=state)
        assert same_policy(made, source)


def test_components_can_be_left_out_of_the_state() -> None:
    made = runner()
    assert COMPONENT_RL_MODULE not in made.get_state(not_components=COMPONENT_RL_MODULE)
    assert COMPONENT_RL_MODULE in made.get_state(components=COMPONENT_RL_MODULE)


def test_the_module_is_the_policy_alone() -> None:
    made = runner()
    assert made.module.inference_only
    assert {name.split(".")[0] for name in made.module.get_state()} == {"policy"}
    assert made.get_spaces()[DEFAULT_MODULE_ID][0].shape == (3,)
    made.assert_healthy()


def test_runners_of_one_seed_make_different_episodes() -> None:
    """No two environments of a run start alike, and none acts with another's noise."""
    batches = [rows_of(runner(index, envs=3).collect(None, 1, 0)) for index in (1, 2)]
    starts = np.concatenate([batch.observations[:, 0] for batch in batches])
    actions = np.concatenate([batch.actions[:, 0] for batch in batches])
    assert len(set(starts.tolist())) == 6
    assert len(set(actions.tolist())) == 6
    again = rows_of(runner(1, envs=3).collect(None, 1, 0))
    np.testing.assert_array_equal(again.observations, batches[0].observations)
    np.testing.assert_array_equal(again.actions, batches[0].actions)


def test_episode_numbers_of_a_restarted_runner_are_new() -> None:
    before = runner(1, env_config={"length": 2})
    seen = {int(i) for i in rows_of(before.collect(None, 30, 0)).episode_ids}
    after = runner(1, env_config={"length": 2})
    assert not seen & {int(i) for i in rows_of(after.collect(None, 30, 30)).episode_ids}


def test_a_runner_without_an_environment_says_so() -> None:
    config = tiny_config(num_env_runners=2)
    space = runner().get_spaces()
    bare = MnMEnvRunner(
        config=config.copy(copy_frozen=False), worker_index=0, num_workers=2, spaces=space
    )
    assert bare.env is None
    with pytest.raises(RuntimeError, match="no environment: ask a remote one"):
        bare.sample(num_episodes=1)
    bare.stop()


def test_hooks_of_the_environment_and_of_samples_are_called() -> None:
    seen: dict[str, Any] = {}
    made = runner(
        hooks={
            "on_environment_created": lambda **info: seen.update(created=info),
            "on_sample_end": lambda **info: seen.update(sampled=info),
        }
    )
    assert seen["created"]["env_runner"] is made
    assert seen["created"]["env_context"].worker_index == 0
    assert [type(env.unwrapped).__name__ for env in seen["created"]["env"].envs] == ["Line"]
    made.collect(None, 4, 0)
    assert seen["sampled"]["samples"] == [SampledSteps(4)]
    assert seen["sampled"]["metrics_logger"] is made.metrics


def same_policy(first: MnMEnvRunner, second: MnMEnvRunner) -> bool:
    pairs = zip(
        first.module.policy.state_dict().values(),
        second.module.policy.state_dict().values(),
        strict=True,
    )
    return all(torch.equal(one, other) for one, other in pairs)
