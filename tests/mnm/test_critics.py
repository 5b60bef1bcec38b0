"""Tests of the twin critics against two separate networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mnm.critics import TwinCritics, target_copy

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32)


@pytest.fixture
def critics() -> TwinCritics:
    torch.manual_seed(0)
    return TwinCritics(3, LOW, HIGH, (16, 8))


def test_twins_equal_two_separate_networks(critics: TwinCritics) -> None:
    observations = torch.randn(10, 3)
    actions = torch.rand(10, 2) * torch.tensor([4.0, 5.0]) - torch.tensor([2.0, 0.0])
    values = critics(observations, actions)
    assert values.shape == (2, 10)
    on_unit_scale = torch.stack([actions[:, 0] / 2, actions[:, 1] / 2.5 - 1], dim=1)
    for twin in range(2):
        hidden = torch.cat([observations, on_unit_scale], dim=1)
        for layer in range(3):
            weight = critics.networks.weights[layer][twin]
            hidden = hidden @ weight + critics.networks.biases[layer][twin]
            if layer < 2:
                hidden = functional.relu(hidden)
        torch.testing.assert_close(values[twin], hidden.squeeze(-1))
    assert not torch.allclose(values[0], values[1])


def test_smaller_is_the_minimum_row_by_row(critics: TwinCritics) -> None:
    observations, actions = torch.randn(40, 3), torch.rand(40, 2)
    first, second = critics(observations, actions)
    smaller = critics.smaller(observations, actions)
    assert torch.equal(smaller, torch.minimum(first, second))
    assert not torch.equal(smaller, first)
    assert not torch.equal(smaller, second)


def test_output_bias_moves_both_values_by_one_amount(critics: TwinCritics) -> None:
    observations, actions = torch.randn(5, 3), torch.rand(5, 2)
    critics.set_output_bias(0.0)
    centred = critics(observations, actions)
    critics.set_output_bias(7.5)
    torch.testing.assert_close(critics(observations, actions), centred + 7.5)


def test_target_copy_is_frozen_and_stands_alone(critics: TwinCritics) -> None:
    observations, actions = torch.randn(5, 3), torch.rand(5, 2)
    copied = target_copy(critics)
    before = copied(observations, actions)
    assert torch.equal(before, critics(observations, actions))
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    critics.set_output_bias(3.0)
    assert torch.equal(copied(observations, actions), before)


def test_normalising_critics_read_observations_of_unit_scale(critics: TwinCritics) -> None:
    scaled = TwinCritics(3, LOW, HIGH, (16, 8), normalise=True)
    scaled.networks = critics.networks
    observations, actions = torch.randn(30, 3) * torch.tensor([0.1, 1.0, 10.0]), torch.rand(30, 2)
    assert torch.equal(scaled(observations, actions), critics(observations, actions))
    assert scaled.normaliser is not None
    scaled.normaliser.refresh(observations)
    unit = (observations - observations.mean(0)) / observations.std(0)
    torch.testing.assert_close(scaled(observations, actions), critics(unit, actions))
    copied = target_copy(scaled)
    assert torch.equal(copied(observations, actions), scaled(observations, actions))
