"""Tests of the normaliser against NumPy's means and standard deviations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mnm.normaliser import SMALLEST_SCALE, Normaliser
from mnm.replay import Batch, ReplayBuffer
from mnm.transitions import Transitions
from tests.mnm.small_cases import random_transitions


def batch_of(rows: Transitions) -> Batch:
    buffer = ReplayBuffer(len(rows), rows.observations.shape[1], rows.actions.shape[1], "cpu")
    buffer.append(rows)
    return buffer.all_rows()


@pytest.fixture
def rows() -> Transitions:
    rows = random_transitions(200, observation_dim=3, action_dim=2)
    rows.observations[:, 1] = 4.0  # constant, in the observation and in its change
    rows.next_observations[:, 1] = 4.0
    return rows


def test_statistics_are_those_of_numpy(rows: Transitions) -> None:
    normaliser = Normaliser(3, 2)
    normaliser.refresh(batch_of(rows))
    inputs = np.concatenate([rows.observations, rows.actions], axis=1).astype(np.float64)
    targets = np.concatenate(
        [rows.next_observations - rows.observations, rows.rewards[:, None]], axis=1
    ).astype(np.float64)
    for name, values in (("input", inputs), ("target", targets)):
        mean, scale = getattr(normaliser, f"{name}_mean"), getattr(normaliser, f"{name}_scale")
        np.testing.assert_allclose(mean.numpy(), values.mean(0), atol=1e-5)
        expected = np.maximum(values.std(0, ddof=1), SMALLEST_SCALE)
        np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-4)
    assert float(normaliser.input_scale[1]) == pytest.approx(SMALLEST_SCALE)
    assert float(normaliser.target_scale[1]) == pytest.approx(SMALLEST_SCALE)


def test_normalised_columns_have_zero_mean_and_unit_scale(rows: Transitions) -> None:
    normaliser, batch = Normaliser(3, 2), batch_of(rows)
    normaliser.refresh(batch)
    varying_inputs = normaliser.inputs(batch.observations, batch.actions)[:, [0, 2, 3, 4]]
    varying_targets = normaliser.targets(batch)[:, [0, 2, 3]]
    for values in (varying_inputs, varying_targets):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(values.std(0), torch.ones(values.shape[1]), atol=1e-4, rtol=0)


def test_before_any_data_nothing_is_changed(rows: Transitions) -> None:
    normaliser, batch = Normaliser(3, 2), batch_of(rows)
    joined = torch.cat([batch.observations, batch.actions], dim=1)
    assert torch.equal(normaliser.inputs(batch.observations, batch.actions), joined)


def test_denormalising_undoes_normalising(rows: Transitions) -> None:
    normaliser, batch = Normaliser(3, 2), batch_of(rows)
    normaliser.refresh(batch)
    change = batch.next_observations - batch.observations
    targets = normaliser.targets(batch)
    changes, rewards = normaliser.denormalise(targets[:, :3], targets[:, [3, 3]])
    torch.testing.assert_close(changes, change, atol=1e-5, rtol=1e-5)
    both = torch.stack([batch.rewards, batch.rewards], dim=1)
    torch.testing.assert_close(rewards, both, atol=1e-5, rtol=1e-5)


def test_changes_are_the_observation_part_of_the_targets(rows: Transitions) -> None:
    normaliser, batch = Normaliser(3, 2), batch_of(rows)
    normaliser.refresh(batch)
    torch.testing.assert_close(
        normaliser.changes(batch.observations, batch.next_observations),
        normaliser.targets(batch)[:, :3],
    )


def test_extra_leading_dimensions_are_allowed(rows: Transitions) -> None:
    normaliser, batch = Normaliser(3, 2), batch_of(rows)
    normaliser.refresh(batch)
    flat = normaliser.inputs(batch.observations, batch.actions)
    dealt = normaliser.inputs(batch.observations.view(4, 50, 3), batch.actions.view(4, 50, 2))
    assert torch.equal(dealt.reshape(200, 5), flat)


def test_statistics_travel_with_the_state(rows: Transitions) -> None:
    normaliser, other = Normaliser(3, 2), Normaliser(3, 2)
    normaliser.refresh(batch_of(rows))
    other.load_state_dict(normaliser.state_dict())
    assert torch.equal(other.input_mean, normaliser.input_mean)
    assert torch.equal(other.target_scale, normaliser.target_scale)
