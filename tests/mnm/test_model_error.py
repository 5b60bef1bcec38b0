"""Tests of the model's error by horizon, on models and episodes whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mnm import Transitions
from mnm.dynamics import DynamicsEnsemble
from mnm.model_error import contiguous_episodes, imagined_trajectories, model_error
from tests.mnm.small_cases import small_settings

PUSH = 0.5  # of every real step, in both dimensions


def episode(length: int, episode_id: int = 0, first_step: int = 0) -> Transitions:
    """A point that moves by `PUSH` in both dimensions at every step."""
    path = np.full((length + 1, 2), PUSH, dtype=np.float32).cumsum(0) + episode_id
    zeros = np.zeros(length, dtype=np.float32)
    return Transitions(
        path[:-1],
        zeros[:, None],
        zeros,
        path[1:],
        zeros.astype(bool),
        zeros.astype(bool),
        np.full(length, episode_id),
        np.arange(first_step, first_step + length),
    )


def constant_model(changes: list[tuple[float, float]]) -> DynamicsEnsemble:
    """An ensemble whose members always predict these changes of the state, almost surely."""
    settings = small_settings("mnm", ensemble_size=len(changes), num_elites=1)
    dynamics = DynamicsEnsemble(2, 1, settings)
    with torch.no_grad():
        for parameter in dynamics.networks.parameters():
            parameter.zero_()
        dynamics.normaliser.target_scale.copy_(torch.tensor([2.0, 2.0, 1.0]))
        for member, change in enumerate(changes):
            dynamics.networks.biases[-1][member, 0, :2] = torch.tensor(change) / 2.0
        dynamics.networks.biases[-1][..., 3:] = -1000.0  # the smallest variance there is
    return dynamics


def test_the_error_grows_as_the_models_drift_does() -> None:
    dynamics = constant_model([(PUSH, PUSH + 0.3)])
    error = model_error(dynamics, [episode(6), episode(3, 1)], 5, np.array([1.0, 0.1]))
    horizons = np.arange(1, 6)
    expected = np.stack([np.zeros(5), 0.3 * horizons / 0.1], axis=1)
    np.testing.assert_allclose(error.rmse_by_dimension, expected, atol=1e-4)
    np.testing.assert_allclose(error.rmse, expected[:, 1] / np.sqrt(2), atol=1e-4)
    unchanged = np.sqrt(((PUSH * horizons) ** 2 + (PUSH * horizons / 0.1) ** 2) / 2)
    np.testing.assert_allclose(error.rmse_unchanged, unchanged, rtol=1e-5)
    assert error.starts.tolist() == [9, 7, 5, 3, 2]


def test_errors_are_those_of_single_members_and_not_of_their_mean() -> None:
    dynamics = constant_model([(PUSH + 0.2, PUSH), (PUSH - 0.2, PUSH)])
    assert model_error(dynamics, [episode(4)], 2, np.ones(2)).rmse[1] == pytest.approx(
        0.4 / np.sqrt(2), rel=1e-4
    )
    exact = constant_model([(PUSH, PUSH), (9.0, 9.0)])
    error = model_error(exact, [episode(4)], 2, np.ones(2), members=torch.tensor([0]))
    np.testing.assert_allclose(error.rmse, 0.0, atol=1e-5)


def test_few_starts_still_reach_every_horizon() -> None:
    error = model_error(
        constant_model([(PUSH, PUSH)]),
        [episode(2, number) for number in range(50)] + [episode(30, 50)],
        100,
        np.ones(2),
        most_starts=4,
    )
    assert len(error.rmse) == 30
    assert error.starts.min() >= 1


def test_episodes_are_taken_apart_where_a_step_is_missing() -> None:
    parts = [episode(2, 7, first_step=5), episode(3, 2), episode(3, 7)]
    whole = Transitions.concatenate(parts)[np.random.default_rng(0).permutation(8)]
    found = [(part.episode_ids[0], part.steps.tolist()) for part in contiguous_episodes(whole)]
    assert found == [(2, [0, 1, 2]), (7, [0, 1, 2]), (7, [5, 6])]
    assert contiguous_episodes(episode(0)) == []


def test_imagined_trajectories_start_where_they_are_told_and_follow_the_members() -> None:
    dynamics = constant_model([(0.1, 0.0), (-0.1, 0.0)])
    drawn = imagined_trajectories(
        dynamics, np.array([3.0, 4.0]), np.zeros((5, 1)), 200, torch.Generator().manual_seed(0)
    )
    assert drawn.shape == (200, 6, 2)
    assert (drawn[:, 0] == [3.0, 4.0]).all()
    steps = np.abs(np.diff(drawn[..., 0], axis=1))
    noise = 2.0 * np.exp(-5.0)  # scale times the smallest deviation
    assert np.abs(steps - 0.1).max() < 6 * noise
    assert drawn[:, 1, 0].mean() == pytest.approx(3.0, abs=0.03)
    one = torch.tensor([0])
    pushed = imagined_trajectories(
        dynamics, np.zeros(2), np.zeros((5, 1)), 50, torch.Generator().manual_seed(0), one
    )
    assert pushed[:, -1, 0].mean() == pytest.approx(0.5, abs=0.03)
