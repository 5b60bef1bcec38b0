"""Tests of the agent: repeatability, what is due when, actions, and refused transitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mnm import DataRefused, TaskSpaces
from mnm.replay import HOLDOUT_PERIOD, Batch
from mnm.settings import ALGORITHMS, INITIAL_CRITIC_VALUES
from mnm.transitions import check_finite
from mnm.updates import ASK_EVERY
from tests.mnm.agent_variants import VARIANTS, every_variant, saved_and_loaded, train, variant_agent
from tests.mnm.small_cases import (
    flat_tensors,
    parameters_of,
    random_transitions,
    same_tensors,
    small_agent,
)

# Repeatability


@every_variant
def test_same_seed_gives_the_same_networks(variant: str) -> None:
    agents = [variant_agent(variant, seed) for seed in (0, 0, 1)]
    statistics = [train(agent, 0, 60) for agent in agents]
    states = [parameters_of(agent.networks) for agent in agents]
    assert same_tensors(states[0], states[1])
    assert not same_tensors(states[0], states[2])
    assert statistics[0] == statistics[1]
    assert agents[0].updates == 40
    assert all(bool(torch.isfinite(value).all()) for value in states[0].values())


@every_variant
def test_learning_changes_every_network(variant: str) -> None:
    agent = variant_agent(variant)
    before = parameters_of(agent.networks)
    train(agent, 0, 60)
    after = parameters_of(agent.networks)
    still = {name for name in after if torch.equal(before[name], after[name])}
    constant = {name for name in after if name.split(".")[-1].startswith("action_")}
    if VARIANTS[variant].get("classifier_reward_weight") != "auto":
        constant.add("log_classifier_reward_weight")
    assert still - {"dynamics.elites"} == constant


def test_without_a_seed_agents_differ() -> None:
    first, second = small_agent("sac", seed=None), small_agent("sac", seed=None)
    assert not same_tensors(parameters_of(first.networks), parameters_of(second.networks))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    train(variant_agent("mnm"), 0, 40)
    assert torch.equal(torch.get_rng_state(), before)


# What is due


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.integers(0, 13), max_size=15),
    ratio=st.sampled_from([0.0, 0.125, 0.5, 1.0, 2.5, 7.0]),
    random_steps=st.integers(0, 40),
)
def test_updates_keep_the_ratio_whatever_the_chunks(
    chunks: list[int], ratio: float, random_steps: int
) -> None:
    agent = small_agent("sac", updates_to_data_ratio=ratio, num_random_steps=random_steps)
    made: list[int] = []

    def count_updates(count: int, should_stop: Callable[[], bool] | None) -> int:
        made.append(count)
        return count

    agent.joint_update.make = count_updates  # type: ignore[method-assign]
    for chunk in chunks:
        agent.ingest(random_transitions(chunk, first=agent.env_steps))
        agent.learn()
        allowed = math.floor(ratio * max(0, agent.env_steps - random_steps))
        if agent.env_steps < HOLDOUT_PERIOD:
            allowed = 0  # nothing is fitted yet: they stay due
        assert sum(made) == agent.updates == allowed
    assert agent.env_steps == sum(chunks)
    assert all(count > 0 for count in made)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_updates_left_by_a_stop_are_made_by_the_next_call_as_if_there_had_been_one(
    algo: str,
) -> None:
    whole, stopped, resumed = (small_agent(algo, updates_to_data_ratio=2.0) for _ in range(3))
    for agent in (whole, stopped):
        train(agent, 0, 30)
        agent.ingest(random_transitions(25, first=30))
    whole.update_if_due()
    answers = iter([False, True])
    stopped.update_if_due(lambda: next(answers))
    assert stopped.updates == whole.updates - 50 + 2 * ASK_EVERY
    resumed.load_state_dict(saved_and_loaded(stopped.state_dict()))
    resumed.replay.append(stopped.replay.transitions())
    if resumed.synthetic is not None:
        assert stopped.synthetic is not None
        resumed.synthetic.append(stopped.synthetic.transitions())
    resumed.update_if_due()
    assert resumed.updates == whole.updates
    assert same_tensors(flat_tensors(resumed.state_dict()), flat_tensors(whole.state_dict()))


def test_ratio_is_that_of_the_updates_really_made(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent("mnm", updates_to_data_ratio=1.5)
    calls = 0
    update = agent.joint_update._update_actor_critic

    def count_calls(batch: Batch, target: Tensor) -> None:
        nonlocal calls
        calls += 1
        update(batch, target)

    monkeypatch.setattr(agent.joint_update, "_update_actor_critic", count_calls)
    train(agent, 0, 45)
    assert calls == agent.updates == 37  # 1.5 * 25, rounded down


def test_fits_and_rollouts_come_at_their_intervals() -> None:
    agent = small_agent("mbpo")
    fits, rollouts = [], []
    for step in range(70):
        agent.ingest(random_transitions(1, first=step))
        if agent.fit_if_due():
            fits.append(agent.env_steps)
        request = agent.rollout_request()
        if request is not None:
            rollouts.append(agent.env_steps)
            assert request.start_observations.shape == (30, 2)  # 3 a step, 10 steps
            assert request.length == 2
    assert fits == [20, 35, 50, 65]
    assert rollouts == [20, 30, 40, 50, 60, 70]


def test_a_turn_of_many_steps_brings_as_many_rollouts() -> None:
    agent = small_agent("mbpo")
    starts = []
    for turn in (43, 8, 2, 19, 300):
        agent.ingest(random_transitions(turn, first=agent.env_steps))
        request = agent.rollout_request()
        starts.append(0 if request is None else len(request.start_observations))
    # 3 a step: for 10 and the 23 behind step 20, of which the pool keeps 30; for 10; 19; and 30.
    assert starts == [90, 0, 30, 57, 90]


def test_rollouts_whose_answer_will_not_come_are_asked_for_again() -> None:
    agent = small_agent("mbpo")
    agent.ingest(random_transitions(20))
    assert agent.rollout_request() is not None
    agent.ingest(random_transitions(8, first=20))
    assert agent.rollout_request() is None
    agent.imagine_again()
    again = agent.rollout_request()
    assert again is not None
    assert len(again.start_observations) == 3 * (10 + 8), "and for the steps since"
    agent.ingest(random_transitions(9, first=28))
    assert agent.rollout_request() is None


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_observations_are_scaled_by_the_replay_at_every_fit(algo: str) -> None:
    agent = small_agent(algo, normalise_observations=True)
    train(agent, 0, 36)  # fits at 20 and 35 rows
    networks = agent.networks
    rows = agent.replay.all_rows().observations[:35]
    for module in (networks.policy, networks.critics, networks.target_critics):
        assert module.normaliser is not None
        torch.testing.assert_close(module.normaliser.mean, rows.mean(0))
        torch.testing.assert_close(module.normaliser.scale, rows.std(0))
    assert small_agent(algo).networks.policy.normaliser is None


def test_rollouts_start_at_real_states_and_are_counted() -> None:
    agent = small_agent("mbpo")
    agent.ingest(random_transitions(20))
    agent.learn()
    assert agent.synthetic is not None
    assert len(agent.synthetic) == agent.synthetic_transitions == 60
    rows = agent.synthetic.transitions()
    real = {tuple(row) for row in random_transitions(20).observations.tolist()}
    starts = {tuple(row) for row in rows.observations[rows.steps == 0].tolist()}
    assert starts <= real
    assert agent.synthetic.capacity == 3 * 30 * 2


def test_no_more_is_drawn_from_than_the_retention_brings_while_rollouts_grow() -> None:
    """Rollouts of one step, then of five: the pool, made for these, keeps rows of 150 steps."""
    agent = small_agent("mbpo", rollout_schedule=(200, 201, 1, 5))
    train(agent, 0, 190)
    pool = agent.synthetic
    assert pool is not None
    assert pool.size > pool.newest == 3 * 30
    restored = small_agent("mbpo", rollout_schedule=(200, 201, 1, 5))
    restored.load_state_dict(agent.state_dict())
    assert restored.synthetic is not None
    assert restored.synthetic.newest == 3 * 30
    train(agent, 190, 230)
    assert pool.newest == pool.capacity == 3 * 30 * 5


@pytest.mark.parametrize("algo", ["sac", "mnm"])
def test_nothing_is_learned_before_the_first_fit(algo: str) -> None:
    agent = small_agent(algo, num_random_steps=0, normalise_observations=True)
    for step in range(10):
        assert agent.updates == 0
        train(agent, step, step + 1, chunk=1)
    assert agent.updates == 10, "updates of the steps before stay due"


def test_buffers_that_do_not_fit_the_memory_name_their_settings() -> None:
    with pytest.raises(ValueError, match=r"rollouts_per_step, synthetic_retention .* smaller"):
        small_agent("mbpo", synthetic_retention=10**12)
    with pytest.raises(ValueError, match=r"replay_capacity smaller"):
        small_agent("sac", replay_capacity=10**13)


@pytest.mark.parametrize(("horizon", "refused"), [(200, True), (0, False)])
def test_rewards_without_a_logarithm_end_mnm_approx_for_its_bound_alone(
    horizon: int, refused: bool
) -> None:
    agent = small_agent("mnm-approx", reward_transform="shift", bound_horizon=horizon)
    rows = random_transitions(3)
    rows.rewards[1] = -1.0
    with pytest.raises(ValueError, match="not positive") if refused else nullcontext():
        agent.ingest(rows)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (-math.inf, 1.0), (2.0, 1.0)])
def test_an_action_needs_a_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=rf"Action 1 goes from {low:g} to {high:g}"):
        TaskSpaces(2, np.array([-1, low], np.float32), np.array([1, high], np.float32))


def test_sac_has_no_model() -> None:
    agent = small_agent("sac")
    statistics = train(agent, 0, 40)
    assert agent.networks.dynamics is None
    assert agent.networks.classifier is None
    assert agent.rollout_request() is None
    assert agent.synthetic_transitions == 0
    assert not any(name.startswith(("model_", "classifier_")) for name in statistics)


@pytest.mark.parametrize("algo", ["mbpo", "mnm-approx", "mnm"])
def test_learning_reports_the_model(algo: str) -> None:
    statistics = train(small_agent(algo), 0, 40)
    expected = {"model_fit_steps", "model_holdout_nll", "model_holdout_rmse", "critic_loss"}
    if algo != "mbpo":
        expected |= {
            "classifier_accuracy",
            "classifier_logit_real",
            "classifier_logit_imagined",
            "classifier_logit_pool",
        }
    assert expected <= set(statistics)
    assert all(math.isfinite(value) for value in statistics.values())


def test_nothing_is_learned_during_the_random_steps() -> None:
    agent = small_agent("mnm")
    before = parameters_of(agent.networks)
    agent.ingest(random_transitions(19))
    assert agent.learn() == {}
    assert same_tensors(parameters_of(agent.networks), before)


@pytest.mark.parametrize("start", INITIAL_CRITIC_VALUES)
def test_critics_start_at_the_value_of_the_mean_reward(start: str) -> None:
    agent = small_agent("mnm", gamma=0.9, reward_beta=1.5, initial_critic_value=start)
    rows = random_transitions(20)
    agent.ingest(rows)
    agent.learn()
    log_rewards = 1.5 * rows.rewards.astype(np.float64)
    means = {"log-mean": math.log(np.exp(log_rewards).mean()), "mean-log": log_rewards.mean()}
    assert means["log-mean"] - means["mean-log"] > 0.1
    expected = means[start] - math.log(1 - 0.9)
    for critics in (agent.networks.critics, agent.networks.target_critics):
        assert critics.networks.biases[-1].flatten().tolist() == pytest.approx([expected] * 2)
    # Once only: a later fit leaves the critics to their learning.
    agent.networks.critics.set_output_bias(0.0)
    agent.ingest(random_transitions(15, first=20))
    assert agent.fit_if_due()
    assert agent.networks.critics.networks.biases[-1].abs().max() == 0


# Acting


def test_actions_are_in_the_box_and_explore() -> None:
    agent = small_agent("sac")
    observations = np.zeros((500, 2), np.float32)
    actions = agent.act(observations)
    assert actions.shape == (500, 1)
    assert actions.dtype == np.float32
    assert actions.min() >= -2
    assert actions.max() <= 4
    assert actions.std() > 0.5
    assert not np.array_equal(actions, agent.act(observations))


def test_deterministic_actions_draw_no_random_number() -> None:
    agent = small_agent("sac")
    observations = np.random.default_rng(0).normal(size=(5, 2))
    before = agent.generator.get_state()
    actions = agent.act(observations, deterministic=True)
    np.testing.assert_array_equal(actions, agent.act(observations, deterministic=True))
    assert torch.equal(agent.generator.get_state(), before)


# Refused transitions


@pytest.mark.parametrize("name", ["observations", "rewards", "next_observations"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("algo", ["sac", "mnm"])
def test_value_that_is_not_finite_is_refused(name: str, value: float, algo: str) -> None:
    agent = small_agent(algo)
    agent.ingest(random_transitions(12))
    rows = random_transitions(15, first=12)
    column = getattr(rows, name).reshape(15, -1)
    column[11, -1] = value  # real step 23: step 3 of episode 2
    before = agent.rewards.smallest
    message = rf"not finite in {name} at real step 23 \(step 3 of episode 2\): mend the environment"
    with pytest.raises(DataRefused, match=message):
        agent.ingest(rows)
    assert agent.env_steps == len(agent.replay) == 12
    assert agent.rewards.smallest == before


def test_a_policy_that_diverged_is_told_from_an_environment_that_is_broken() -> None:
    rows = random_transitions(5)
    rows.actions[1] = math.nan
    rows.next_observations[1:] = math.nan  # as the environment answers such an action
    rows.observations[2:] = math.nan
    with pytest.raises(ValueError, match=r"policy gave .* real step 41 .*: training has diverged"):
        check_finite(rows, 40)


def test_finite_values_pass_the_check() -> None:
    rows = random_transitions(5)
    rows.rewards[:] = 3e38
    check_finite(rows, 0)
    assert np.isfinite(rows.rewards).all()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_reward_without_a_logarithm_is_refused_where_it_is_needed(algo: str) -> None:
    agent = small_agent(algo, reward_transform="shift", reward_shift=0.5)
    agent.ingest(random_transitions(10))
    rows = random_transitions(5, first=10)
    rows.rewards[3] = -0.75
    if algo in ("sac", "mbpo"):
        agent.ingest(rows)
        assert agent.env_steps == 15
    else:
        with pytest.raises(DataRefused, match=r"The reward -0\.75 at real step 13 .* above 0\.75"):
            agent.ingest(rows)
        assert agent.env_steps == len(agent.replay) == 10


def test_empty_batch_is_ignored() -> None:
    agent = small_agent("mnm")
    agent.ingest(random_transitions(0))
    assert agent.env_steps == 0
    assert agent.learn() == {}
