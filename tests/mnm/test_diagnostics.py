"""Diagnostics of a linear-Gaussian model, whose errors and quantiles have closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from mnm import Transitions
from mnm.classifier import TransitionClassifier
from mnm.diagnostics import (
    coverage,
    error_scale,
    imagined_trajectories,
    in_order,
    judge_one_step,
    judge_open_loop,
    real_probabilities,
    reliability,
    steps_ahead,
)
from mnm.dynamics import DynamicsEnsemble
from mnm.networks import EnsembleMLP
from mnm.normaliser import SMALLEST_SCALE
from tests.mnm.small_cases import small_settings

DECAY, PUSH = 0.9, 0.5
EPISODES, LENGTH = 400, 8


def linear_model(shifts: tuple[float, ...] = (0.0,)) -> DynamicsEnsemble:
    """Members that predict s' = DECAY s + PUSH a + shift, all with `deviation_of` it."""
    settings = small_settings("mbpo", ensemble_size=len(shifts), num_elites=1)
    dynamics = DynamicsEnsemble(1, 1, settings, termination=None)
    dynamics.networks = EnsembleMLP(len(shifts), 2, (), 4)
    with torch.no_grad():
        dynamics.networks.weights[0].copy_(
            torch.tensor([[DECAY - 1, 0.0, 0.0, 0.0], [PUSH, 0.0, 0.0, 0.0]])
        )
        for member, shift in enumerate(shifts):
            dynamics.networks.biases[0][member, 0] = torch.tensor([shift, 0.0, 0.0, -2.0])
    return dynamics


def deviation_of(dynamics: DynamicsEnsemble) -> float:
    zero = torch.zeros(1, 1)
    return float(dynamics.predict(zero, zero).log_variance[0].detach().mul(0.5).exp())


def episodes(deviation: float, count: int = EPISODES, length: int = LENGTH) -> Transitions:
    """What a task of that noise gives, the rows of all episodes in turns as a log has them."""
    generator = np.random.default_rng(0)
    states = generator.normal(size=(length + 1, count))
    actions = generator.uniform(-1, 1, size=(length, count))
    for step in range(length):
        noise = deviation * generator.normal(size=count)
        states[step + 1] = DECAY * states[step] + PUSH * actions[step] + noise
    last = np.repeat(np.arange(length) == length - 1, count)
    return Transitions(
        observations=states[:-1].reshape(-1, 1).astype(np.float32),
        actions=actions.reshape(-1, 1).astype(np.float32),
        rewards=np.zeros(length * count, np.float32),
        next_observations=states[1:].reshape(-1, 1).astype(np.float32),
        terminateds=np.zeros(length * count, bool),
        truncateds=last,
        episode_ids=np.tile(np.arange(count), length),
        steps=np.repeat(np.arange(length), count),
    )


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_quantiles_cover_what_the_true_noise_covers(times: float) -> None:
    model = linear_model()
    deviation = deviation_of(model)
    judged = judge_one_step(model, episodes(times * deviation), None)
    levels = np.array([0.5, 0.9])
    half_widths = Normal(0.0, 1.0).icdf(torch.tensor(0.5 + levels / 2))
    expected = 2 * Normal(0.0, times).cdf(half_widths).numpy() - 1
    np.testing.assert_allclose(coverage(judged.quantiles, levels)[:, 0], expected, atol=0.03)
    entropy = math.log(deviation) + 0.5 * math.log(2 * math.pi) + 0.5 * times**2
    assert judged.nll.mean() == pytest.approx(entropy, abs=0.1 * times**2)
    assert judged.deviations.std() == pytest.approx(times, rel=0.05)


def test_a_mixtures_likelihood_quantile_and_moments_are_its_own() -> None:
    model = linear_model(shifts=(-0.3, 0.5))
    rows = episodes(0.4)[:5]
    judged = judge_one_step(model, rows, None)
    means = DECAY * rows.observations + PUSH * rows.actions + np.array([-0.3, 0.5])
    deviation = deviation_of(model)
    members = Normal(torch.tensor(means), deviation)
    value = torch.tensor(rows.next_observations)
    nll = -torch.log(members.log_prob(value).exp().mean(-1))
    np.testing.assert_allclose(judged.nll, nll, rtol=1e-3)
    np.testing.assert_allclose(judged.quantiles[:, 0], members.cdf(value).mean(-1), rtol=1e-3)
    spread = math.hypot(deviation, 0.4)
    scores = (rows.next_observations[:, 0] - means.mean(-1)) / spread
    np.testing.assert_allclose(judged.deviations[:, 0], scores, rtol=1e-3, atol=1e-5)


def test_likelihoods_are_in_normalised_units() -> None:
    model, rows, scale = linear_model(), episodes(0.4)[:5], 10.0
    with torch.no_grad():
        model.normaliser.target_scale.fill_(scale)
        model.networks.weights[0][:, :, 0] /= scale
    mean = torch.tensor(DECAY * rows.observations + PUSH * rows.actions)
    value = torch.tensor(rows.next_observations)
    in_units = -Normal(mean, scale * deviation_of(model)).log_prob(value)[:, 0]
    judged = judge_one_step(model, rows, None)
    np.testing.assert_allclose(judged.nll, in_units - math.log(scale), rtol=1e-3)


@pytest.mark.parametrize("members", [None, torch.tensor([0])])
def test_errors_of_several_steps_are_those_of_the_sum_of_the_noise(members: object) -> None:
    model = linear_model()
    deviation = deviation_of(model)
    rows = in_order(episodes(deviation))
    starts = np.arange(0, EPISODES * LENGTH, LENGTH)
    generator = torch.Generator().manual_seed(0)
    judged = judge_open_loop(model, rows, starts, 5, 50, generator, members)  # type: ignore[arg-type]
    expected = [deviation * math.sqrt(sum(DECAY ** (2 * j) for j in range(k))) for k in range(1, 6)]
    np.testing.assert_allclose(judged.spread[:, 0], expected, rtol=0.02)
    np.testing.assert_allclose(judged.rmse[:, 0], expected, rtol=0.12)
    first = rows.observations[starts]
    for step in range(5):
        moved = rows.next_observations[starts + step] - first
        assert judged.unmoved[step, 0] == pytest.approx(np.sqrt(np.mean(moved**2)), rel=1e-4)
    assert judged.starts.tolist() == [EPISODES] * 5


def test_a_wrong_mean_shows_as_error_and_not_as_spread() -> None:
    model = linear_model(shifts=(1.0,))
    rows = in_order(episodes(1e-6))
    starts = np.arange(0, EPISODES * LENGTH, LENGTH)
    generator = torch.Generator().manual_seed(0)
    judged = judge_open_loop(model, rows, starts, 3, 200, generator, None)
    bias = [sum(DECAY**j for j in range(k)) for k in (1, 2, 3)]
    np.testing.assert_allclose(judged.rmse[:, 0], bias, rtol=0.02)
    assert judged.spread[0, 0] == pytest.approx(deviation_of(model), rel=0.02)


def test_errors_are_measured_in_deviations_that_jitter_does_not_make_small() -> None:
    rng = np.random.default_rng(0)
    observations = np.stack(
        [3.0 * rng.normal(size=100), 5e-6 * rng.normal(size=100), np.full(100, 0.07)], axis=1
    ).astype(np.float32)
    scale = error_scale(observations)
    assert scale[0] == pytest.approx(observations[:, 0].std(), rel=1e-5)
    assert scale[1] == SMALLEST_SCALE
    assert np.isnan(scale[2])


def test_only_rows_without_a_gap_follow_on_one_another() -> None:
    rows = episodes(0.1, count=2, length=6)
    rows.terminateds[rows.episode_ids == 1] = rows.steps[rows.episode_ids == 1] == 2
    rows = rows[~((rows.episode_ids == 0) & (rows.steps == 3))]
    rows = in_order(rows)
    assert rows.episode_ids.tolist() == [0] * 5 + [1] * 6
    assert rows.steps.tolist() == [0, 1, 2, 4, 5, 0, 1, 2, 3, 4, 5]
    assert steps_ahead(rows).tolist() == [3, 2, 1, 2, 1, 3, 2, 1, 3, 2, 1]


def test_a_horizon_ends_with_the_longest_episode() -> None:
    rows = in_order(episodes(0.1, count=3, length=4))
    starts, generator = np.array([0, 2, 4]), torch.Generator().manual_seed(0)
    judged = judge_open_loop(linear_model(), rows, starts, 50, 2, generator, None)
    assert judged.starts.tolist() == [3, 3, 2, 2]
    assert judged.rmse.shape == (4, 1)


def test_reliability_is_the_share_of_what_happened() -> None:
    probabilities = np.array([0.05, 0.05, 0.55, 0.59, 1.0])
    happened = np.array([False, True, True, True, False])
    judged = reliability(probabilities, happened, bins=10)
    assert judged.counts.tolist() == [2, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    np.testing.assert_allclose(judged.predicted[[0, 5, 9]], [0.05, 0.57, 1.0])
    np.testing.assert_allclose(judged.observed[[0, 5, 9]], [0.5, 1.0, 0.0])
    assert np.isnan(judged.observed[1])
    assert judged.error == pytest.approx((2 * 0.45 + 2 * 0.43 + 1 * 1.0) / 5)


def test_the_classifier_is_asked_about_both_with_the_same_states_and_actions() -> None:
    model, rows = linear_model(shifts=(2.0,)), episodes(0.1)
    classifier = TransitionClassifier(1, 1, small_settings("mnm"))
    classifier.networks = EnsembleMLP(1, 3, (), 1)
    with torch.no_grad():  # logit = 20 (1 - (s' - DECAY s - PUSH a))
        classifier.networks.weights[0][0, :, 0] = torch.tensor([20 * (DECAY - 1), 20 * PUSH, -20.0])
        classifier.networks.biases[0].fill_(20.0)
    generator = torch.Generator().manual_seed(0)
    real, imagined = real_probabilities(classifier, model, rows, generator, None)
    assert (real > 0.5).mean() == 1.0
    assert (imagined < 0.5).mean() > 0.98


def test_imagined_trajectories_follow_the_actions_from_the_start_they_are_given() -> None:
    model = linear_model(shifts=(9.0, 1.0))
    actions = np.array([[0.5], [-1.0], [0.0]])
    drawn = imagined_trajectories(
        model,
        np.array([3.0]),
        actions,
        4000,
        torch.Generator().manual_seed(0),
        torch.tensor([1]),
    )
    assert drawn.shape == (4000, 4, 1)
    assert (drawn[:, 0] == 3.0).all()
    mean, variance = 3.0, 0.0
    for step, action in enumerate(actions[:, 0]):
        mean = DECAY * mean + PUSH * action + 1.0
        variance = DECAY**2 * variance + deviation_of(model) ** 2
        assert drawn[:, step + 1].mean() == pytest.approx(mean, abs=0.04)
        assert drawn[:, step + 1].std() == pytest.approx(math.sqrt(variance), rel=0.05)
