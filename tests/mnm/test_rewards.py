"""Tests of the reward transforms, their error sentences, and the worth of a terminated episode."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from mnm.rewards import RewardTransform
from mnm.settings import Settings
from mnm.transitions import DataRefused


def transform_of(**changes: Any) -> RewardTransform:
    return RewardTransform(Settings.preset("mnm", **changes))


def check(
    transform: RewardTransform, rewards: list[float], ended: list[bool] | None = None
) -> None:
    values = np.array(rewards, np.float32)
    flags = np.array(ended or [False] * len(rewards))
    transform.check(values, flags, 100)
    transform.remember(values)


def test_shift_takes_the_logarithm_of_the_shifted_reward() -> None:
    transform = transform_of(reward_transform="shift", reward_shift=0.5)
    rewards = torch.tensor([0.0, 0.5, 1.5, 9.5])
    expected = torch.tensor([math.log(0.5), 0.0, math.log(2), math.log(10)])
    torch.testing.assert_close(transform.log(rewards), expected)


def test_exp_scales_the_reward() -> None:
    transform = transform_of(reward_transform="exp", reward_beta=3.0)
    rewards = torch.tensor([-2.0, 0.0, 0.25])
    torch.testing.assert_close(transform.log(rewards), torch.tensor([-6.0, 0.0, 0.75]))
    torch.testing.assert_close(torch.exp(rewards * 3).log(), transform.log(rewards))


@pytest.mark.parametrize("reward", [0.0, -0.5, -16.25])
def test_reward_that_is_not_positive_is_refused(reward: float) -> None:
    transform = transform_of(reward_transform="shift", reward_shift=0.0)
    sentence = (
        f"The reward {reward:g} at real step 102 is not positive with reward_shift=0: "
        f'set reward_shift above {abs(reward):g}, or reward_transform="exp".'
    )
    with pytest.raises(DataRefused, match=f"^{re.escape(sentence)}$"):
        check(transform, [1.0, 2.0, reward, 3.0])


def test_shift_that_the_sentence_asks_for_is_enough() -> None:
    rewards = [1.0, -16.2736]
    with pytest.raises(DataRefused, match="set reward_shift above ") as error:
        check(transform_of(reward_transform="shift", reward_shift=0.01), rewards)
    asked = float(re.search(r"reward_shift above ([\d.]+)", str(error.value)).group(1))  # type: ignore[union-attr]
    transform = transform_of(reward_transform="shift", reward_shift=asked * 1.001)
    check(transform, rewards)
    assert math.isfinite(float(transform.log(torch.tensor(rewards)).min()))


@pytest.mark.parametrize("shift", [0.0, -0.5])
def test_termination_without_a_positive_terminal_reward_is_refused(shift: float) -> None:
    transform = transform_of(reward_transform="shift", reward_shift=shift)
    sentence = (
        f"The task terminated at real step 101 and reward_shift={shift:g} leaves an ended episode "
        "no positive reward: set terminal_reward or a positive reward_shift, "
        'or reward_transform="exp".'
    )
    with pytest.raises(DataRefused, match=f"^{re.escape(sentence)}$"):
        check(transform, [1.0, 1.0, 1.0], [False, True, False])
    # Without a termination the same rewards are in order.
    check(transform, [1.0, 1.0, 1.0])
    assert transform.smallest == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"reward_transform": "exp"},
        {"reward_transform": "shift", "reward_shift": 20.0},
        {"reward_transform": "shift", "reward_shift": 20.0, "terminal_reward": 0.1},
    ],
)
def test_rewards_and_terminations_that_are_in_order(changes: dict[str, Any]) -> None:
    transform = transform_of(**changes)
    check(transform, [-16.0, 0.0, 3.0], [True, False, True])
    assert transform.smallest == -16.0


def test_a_refused_batch_leaves_the_smallest_reward_as_it_was() -> None:
    transform = transform_of(reward_transform="shift", reward_shift=0.0)
    check(transform, [2.0, 0.5])
    check(transform, [1.0])
    with pytest.raises(DataRefused, match="is not positive"):
        check(transform, [-1.0])
    with pytest.raises(DataRefused, match="terminated"):
        check(transform, [0.25], [True])
    assert transform.smallest == 0.5


@pytest.mark.parametrize(
    ("changes", "terminal_reward"),
    [
        ({"reward_transform": "exp"}, 1.0),  # exp(beta 0)
        ({"reward_transform": "shift", "reward_shift": 0.25}, 0.25),  # 0 + c
        ({"reward_transform": "exp", "terminal_reward": 0.5}, 0.5),
        ({"reward_transform": "shift", "reward_shift": 0.0, "terminal_reward": 2.0}, 2.0),
    ],
)
def test_terminal_value_is_that_of_a_state_that_pays_for_ever(
    changes: dict[str, Any], terminal_reward: float
) -> None:
    gamma = 0.9
    transform = transform_of(gamma=gamma, **changes)
    discounted = sum(gamma**step * terminal_reward for step in range(1000))
    assert transform.terminal_value == pytest.approx(math.log(discounted), abs=1e-9)
    # The bound's own per-step rewards of that state add up to the same value.
    step_reward = (1 - gamma) * (math.log(terminal_reward) - math.log(1 - gamma))
    assert transform.terminal_value == pytest.approx(
        sum(gamma**step * step_reward for step in range(1000)), abs=1e-9
    )


def test_imagined_termination_of_an_endless_task_is_worth_the_smallest_reward() -> None:
    transform = transform_of(gamma=0.9, reward_transform="shift", reward_shift=0.0)
    check(transform, [2.0, 0.5])
    assert transform.terminal_value == pytest.approx(math.log(0.5 / (1 - 0.9)))


@pytest.mark.parametrize(
    ("changes", "paid"),
    [  # the larger of the largest reward, 0.5 or -0.5, and of what a terminal state pays
        ({"reward_transform": "exp", "reward_beta": 2.0}, (math.exp(1.0), 1.0)),
        ({"reward_transform": "shift", "reward_shift": 1.0}, (1.5, 1.0)),
        ({"reward_transform": "shift", "reward_shift": 1.0, "terminal_reward": 0.2}, (1.5, 0.5)),
    ],
)
def test_the_largest_value_is_that_of_the_best_state_for_ever(
    changes: dict[str, Any], paid: tuple[float, float]
) -> None:
    for largest, reward in zip((0.5, -0.5), paid, strict=True):
        transform = transform_of(gamma=0.9, **changes)
        check(transform, [-0.75, largest])
        assert transform.largest_value == pytest.approx(math.log(reward / (1 - 0.9)))


@pytest.mark.parametrize(
    "changes",
    [{"reward_transform": "shift", "reward_shift": 1.0}, {"reward_transform": "exp"}],
)
def test_predicted_rewards_are_held_to_the_range_of_the_real_ones(changes: dict[str, Any]) -> None:
    transform = transform_of(**changes)
    check(transform, [0.5, -0.5])
    predicted = torch.tensor([-3.0, -0.5, 0.0, 7.0])
    log_reward, floored = transform.log_predicted(predicted)
    assert floored.tolist() == [True, False, False, False]
    torch.testing.assert_close(log_reward, transform.log(torch.tensor([-0.5, -0.5, 0.0, 0.5])))
    assert predicted.tolist() == [-3.0, -0.5, 0.0, 7.0]
