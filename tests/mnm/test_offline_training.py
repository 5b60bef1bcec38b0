"""Tests of joint updates on offline transitions: what is done, how often, and not counted."""

from __future__ import annotations

import math

import pytest

from mnm import Agent, DataRefused
from mnm.offline_training import train_offline
from mnm.settings import ALGORITHMS
from tests.mnm.small_cases import parameters_of, random_transitions, same_tensors, small_agent


def stocked(algo: str, rows: int = 50, **changes: float) -> Agent:
    agent = small_agent(algo, **changes)
    agent.ingest_offline(random_transitions(rows))
    return agent


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_updates_train_and_do_not_count_towards_the_ratio(algo: str) -> None:
    agent = stocked(algo, num_random_steps=0)
    before = parameters_of(agent.networks.policy)
    statistics = train_offline(agent, 7)
    assert math.isfinite(statistics["critic_loss"])
    assert not same_tensors(before, parameters_of(agent.networks.policy))
    assert (agent.offline_updates, agent.updates, agent.env_steps) == (7, 0, 0)
    agent.ingest(random_transitions(5, first=50))
    agent.learn()
    assert (agent.offline_updates, agent.updates, agent.env_steps) == (7, 5, 5)


@pytest.mark.parametrize(("ratio", "fits", "rollouts"), [(1.0, 4, 5), (2.0, 2, 3), (0.0, 4, 5)])
def test_fits_and_rollouts_come_as_often_as_between_real_steps(
    ratio: float, fits: int, rollouts: int
) -> None:
    """Fits every 15 and rollouts every 10 steps; the first of each before the first update."""
    agent = stocked("mbpo", updates_to_data_ratio=ratio)
    for updates in (7, 18, 21):  # however they are asked for
        train_offline(agent, updates)
    assert agent.fitter is not None
    assert agent.fitter.fits == fits
    assert agent.synthetic_transitions == rollouts * 3 * 10 * 2


def test_a_stop_ends_it_before_the_next_fit_or_rollout() -> None:
    agent = stocked("mbpo")
    answers = iter([False, False, True])
    train_offline(agent, 40, lambda: next(answers))
    assert agent.offline_updates == 15  # a rollout after 10, the second fit due at 15


def test_the_model_is_fitted_first() -> None:
    agent = stocked("mnm")
    assert agent.fitter is not None
    assert agent.fitter.fits == 0
    assert {"model_holdout_rmse", "classifier_accuracy"} <= set(train_offline(agent, 1))
    assert agent.fitter.fits == 1


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_rows_of_which_none_is_held_out_are_too_few(algo: str) -> None:
    agent = stocked(algo, rows=9)
    with pytest.raises(DataRefused, match=r"9 transitions are too few .* give at least 10"):
        train_offline(agent, 2)
    assert agent.offline_updates == 0
    agent.ingest_offline(random_transitions(1, first=9))
    train_offline(agent, 2)
    assert agent.offline_updates == 2


def test_counters_are_saved() -> None:
    agent, other = stocked("mnm"), small_agent("mnm", seed=1)
    train_offline(agent, 3)
    other.load_state_dict(agent.state_dict())
    assert (other.offline_transitions, other.offline_updates) == (50, 3)


def test_rewards_that_cannot_be_learned_from_are_refused_by_row() -> None:
    agent = small_agent("mnm", reward_transform="shift")
    rows = random_transitions(20)
    rows.rewards[6] = -2.0
    for take in (agent.check_offline, agent.ingest_offline):
        with pytest.raises(DataRefused, match="reward -2 at row 6 is not positive"):
            take(rows)
    with pytest.raises(DataRefused, match="reward -2 at row 106 is not positive"):
        agent.check_offline(rows, 100)
    assert len(agent.replay) == agent.offline_transitions == 0
    assert math.isinf(agent.rewards.smallest)
    agent.check_offline(rows[:0])
    agent.ingest_offline(rows[:0])
