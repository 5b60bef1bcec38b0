"""Tests of the agent's state: what a restored agent goes on with, and which state is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mnm import Agent, TaskSpaces
from mnm.settings import ALGORITHMS
from tests.mnm.agent_variants import every_variant, saved_and_loaded, train, variant_agent
from tests.mnm.small_cases import (
    SPACES,
    flat_tensors,
    parameters_of,
    random_transitions,
    same_tensors,
    small_agent,
    small_settings,
)


def take_replays(target: Agent, source: Agent) -> None:
    """Gives `target` the rows of `source`."""
    for own, other in ((target.replay, source.replay), (target.synthetic, source.synthetic)):
        if own is not None and other is not None:
            own.load([other.transitions()], other.total - other.size, other.origin)


@every_variant
@pytest.mark.parametrize("capacity", [1000, 33])  # 33: the ring has come round
def test_restored_agent_goes_on_bit_for_bit(variant: str, capacity: int) -> None:
    agent = variant_agent(variant, replay_capacity=capacity)
    train(agent, 0, 45)
    restored = variant_agent(variant, seed=999, replay_capacity=capacity)
    restored.load_state_dict(saved_and_loaded(agent.state_dict()))
    take_replays(restored, agent)
    assert same_tensors(parameters_of(restored.networks), parameters_of(agent.networks))
    statistics = [train(each, 45, 80) for each in (agent, restored)]
    assert same_tensors(parameters_of(restored.networks), parameters_of(agent.networks))
    assert torch.equal(restored.generator.get_state(), agent.generator.get_state())
    assert statistics[0] == statistics[1]
    for name in ("env_steps", "updates", "synthetic_transitions"):
        assert getattr(restored, name) == getattr(agent, name)
    assert restored.env_steps == 80
    assert restored.updates == 60


@pytest.mark.parametrize("steps", [146, 196])
def test_it_draws_from_as_much_of_the_pool_as_before_when_rollouts_have_grown_since(
    steps: int,
) -> None:
    growing = {"rollout_schedule": (20, 220, 1, 9)}  # a step longer every 25; rollouts every 10
    agent, restored = small_agent("mbpo", **growing), small_agent("mbpo", seed=9, **growing)
    train(agent, 0, steps, chunk=1)
    restored.load_state_dict(saved_and_loaded(agent.state_dict()))
    take_replays(restored, agent)
    for each in (agent, restored):
        train(each, steps, steps + 1, chunk=1)
    assert same_tensors(parameters_of(restored.networks), parameters_of(agent.networks))


def test_a_state_from_before_the_pools_share_was_saved_goes_by_the_present_rollouts() -> None:
    growing = {"rollout_schedule": (20, 60, 1, 9)}
    agent, restored = (small_agent("mbpo", **growing) for _ in range(2))
    train(agent, 0, 46, chunk=1)
    state = agent.state_dict()
    del state["counters"]["synthetic_newest"]
    restored.load_state_dict(state)
    assert restored.synthetic is not None
    assert restored.synthetic.newest == 3 * 30 * agent.settings.rollout_length(46)


def test_rewards_that_another_shift_refuses_are_not_taken_over() -> None:
    """As a trial of PBT that gets another one's checkpoint and a shift of its own."""
    agent = small_agent("mnm", reward_transform="shift", reward_shift=1.0)
    rows = random_transitions(20)
    rows.rewards[:] = np.linspace(-0.5, 1.0, 20)
    agent.ingest(rows)
    state = agent.state_dict()
    small_agent("mnm", reward_transform="shift", reward_shift=0.51).load_state_dict(state)
    small_agent("mnm", reward_transform="exp").load_state_dict(state)
    other = small_agent("mnm", reward_transform="shift", reward_shift=0.5)
    before = flat_tensors(other.state_dict())
    with pytest.raises(ValueError, match=r"smallest reward -0\.5 .* set reward_shift above 0\.5"):
        other.load_state_dict(state)
    assert same_tensors(flat_tensors(other.state_dict()), before)
    assert (other.env_steps, other.rewards.smallest) == (0, math.inf)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_restoring_before_anything_was_learned(algo: str) -> None:
    agent, restored = small_agent(algo), small_agent(algo, seed=7)
    restored.load_state_dict(saved_and_loaded(agent.state_dict()))
    for each in (agent, restored):
        train(each, 0, 40)
    assert same_tensors(parameters_of(restored.networks), parameters_of(agent.networks))


def test_the_generator_of_another_device_gives_a_seed() -> None:
    """A GPU's state is 16 bytes, a CPU's 5,056; neither device takes the other's."""
    state = saved_and_loaded(small_agent("sac").state_dict())
    drawn = []
    for first in (1, 1, 2):
        restored = small_agent("sac", seed=7 + len(drawn))
        state["generator"] = torch.full((16,), first, dtype=torch.uint8)
        restored.load_state_dict(state)
        drawn.append(torch.rand(3, generator=restored.generator).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("algo", ["mbpo", "mnm-approx", "mnm"])
def test_restoring_without_the_replay_still_learns(algo: str) -> None:
    agent = small_agent(algo)
    train(agent, 0, 45)
    state = saved_and_loaded(agent.state_dict())
    restored = small_agent(algo, seed=1)
    restored.load_state_dict(state)
    assert len(restored.replay) == 0
    train(restored, 45, 60)  # the next fit is due after five rows
    assert restored.updates == 40
    for name, value in parameters_of(restored.networks).items():
        assert bool(torch.isfinite(value).all()), name


@pytest.mark.parametrize("source", ALGORITHMS)
@pytest.mark.parametrize("target", ALGORITHMS)
def test_state_of_another_algorithm_is_refused(source: str, target: str) -> None:
    state = small_agent(source).state_dict()
    agent = small_agent(target)
    if source == target:
        agent.load_state_dict(state)
        assert same_tensors(parameters_of(agent.networks), state["networks"])
    else:
        with pytest.raises(ValueError, match="checkpoint"):
            agent.load_state_dict(state)


@pytest.mark.parametrize(
    "spaces",
    [
        TaskSpaces(3, SPACES.action_low, SPACES.action_high),
        TaskSpaces(2, np.full(2, -1, np.float32), np.full(2, 1, np.float32)),
        TaskSpaces(2, np.array([-1], np.float32), np.array([1], np.float32)),
    ],
    ids=["observation width", "action width", "action range"],
)
def test_state_of_another_task_is_refused(spaces: TaskSpaces) -> None:
    state = small_agent("sac").state_dict()
    agent = Agent(spaces, small_settings("sac"), seed=0)
    with pytest.raises(ValueError, match="checkpoint"):
        agent.load_state_dict(state)


def test_state_of_other_layer_sizes_is_refused() -> None:
    state = small_agent("mnm").state_dict()
    with pytest.raises(ValueError, match="layer sizes: restore with the settings"):
        small_agent("mnm", hidden_sizes=(8,)).load_state_dict(state)


def test_restored_optimizers_take_the_learning_rates_of_the_settings() -> None:
    source, target = small_agent("mnm"), small_agent("mnm", critic_lr=1e-5, dynamics_lr=2e-5)
    target.load_state_dict(source.state_dict())
    assert target.joint_update.optimizers["critics"].param_groups[0]["lr"] == 1e-5
    assert target.fitter is not None
    assert {group["lr"] for group in target.fitter.optimizer.param_groups} == {2e-5}


def test_restored_optimizers_take_the_weight_decays_of_the_settings() -> None:
    source = small_agent("mbpo", dynamics_weight_decay=(0.1, 0.2, 0.3))
    target = small_agent("mbpo", dynamics_weight_decay=(0.4, 0.5, 0.6))
    target.load_state_dict(source.state_dict())
    assert target.fitter is not None
    groups = target.fitter.optimizer.param_groups
    assert [group["weight_decay"] for group in groups[:3]] == [0.4, 0.5, 0.6]


@pytest.mark.parametrize("ratio", [0.5, 3.0])
def test_a_ratio_changed_at_a_restore_counts_from_there(ratio: float) -> None:
    """Neither makes up for the past at once nor waits until the past has been made up for."""
    source = small_agent("sac", updates_to_data_ratio=1.0)
    source.ingest(random_transitions(60))
    source.learn()
    assert source.updates == 40
    target = small_agent("sac", updates_to_data_ratio=ratio)
    target.load_state_dict(source.state_dict())
    target.learn()
    assert target.updates == 40
    target.ingest(random_transitions(10, first=60))
    target.learn()
    assert target.updates == 40 + 10 * ratio
    again = small_agent("sac", updates_to_data_ratio=1.0)
    again.load_state_dict(target.state_dict())
    again.ingest(random_transitions(10, first=70))
    again.learn()
    assert again.updates == target.updates + 10


def test_a_reward_weight_that_becomes_learned_at_a_restore_starts_anew() -> None:
    source = small_agent("mnm-approx", classifier_reward_weight=0.5)
    target = small_agent("mnm-approx", classifier_reward_weight="auto")
    target.load_state_dict(source.state_dict())
    assert target.joint_update.optimizers["classifier_reward_weight"].state == {}
