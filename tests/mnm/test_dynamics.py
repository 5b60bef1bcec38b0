"""Tests of the dynamics ensemble: likelihood, decoding, deal of rows to members, termination."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from mnm.dynamics import (
    LOG_VARIANCE_MAX,
    LOG_VARIANCE_MIN,
    OUTLIER,
    DynamicsEnsemble,
    Prediction,
    given_end,
)
from mnm.terminations import inverted_pendulum
from tests.mnm.small_cases import small_settings

OBSERVATION_DIM, ACTION_DIM = 2, 1


def ensemble(members: int, num_elites: int = 1) -> DynamicsEnsemble:
    torch.manual_seed(0)
    settings = small_settings("mbpo", ensemble_size=members, num_elites=num_elites)
    return DynamicsEnsemble(OBSERVATION_DIM, ACTION_DIM, settings)


def telltale_ensemble(members: int) -> DynamicsEnsemble:
    """Member m predicts a change of 100 m and the rewards m and -m, almost without noise."""
    dynamics = ensemble(members)
    numbers = torch.arange(members, dtype=torch.float32)
    with torch.no_grad():
        for parameter in dynamics.networks.parameters():
            parameter.zero_()
        bias = dynamics.networks.biases[-1]
        bias[:, 0, :OBSERVATION_DIM] = 100 * numbers.unsqueeze(-1)
        bias[:, 0, OBSERVATION_DIM] = numbers
        bias[:, 0, OBSERVATION_DIM + 1] = -numbers
        bias[:, 0, OBSERVATION_DIM + 2 :] = -1000.0
    return dynamics


def random_prediction() -> tuple[Prediction, Tensor]:
    torch.manual_seed(1)
    prediction = Prediction(torch.randn(3, 5, 5), torch.randn(3, 5, 3))
    return prediction, torch.randn(3, 5, 4)


def test_change_likelihood_is_that_of_a_normal_distribution() -> None:
    prediction, targets = random_prediction()
    deviation = torch.exp(0.5 * prediction.log_variance)
    expected = -Normal(prediction.mean[..., :3], deviation).log_prob(targets[..., :3])
    torch.testing.assert_close(prediction.change_nll(targets), expected)


def test_training_loss_is_the_likelihood_but_for_outliers() -> None:
    prediction, targets = random_prediction()
    deviation = torch.exp(0.5 * prediction.log_variance)
    within = prediction.mean[..., :3] + deviation * (2 * OUTLIER * torch.rand(3, 5, 3) - OUTLIER)
    near = torch.cat([within, targets[..., 3:]], dim=-1)
    torch.testing.assert_close(prediction.change_loss(near), prediction.change_nll(near))
    at_edge, farther = (
        torch.cat([prediction.mean[..., :3] + sign * errors * deviation, targets[..., 3:]], dim=-1)
        for sign, errors in ((1, OUTLIER), (-1, OUTLIER + 100.0))
    )
    torch.testing.assert_close(
        prediction.change_loss(farther) - prediction.change_loss(at_edge),
        torch.full((3, 5, 3), 100.0 * OUTLIER),
    )


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_weighted_loss_has_the_gradients_of_the_likelihood_times_a_power_of_the_variance(
    beta: float,
) -> None:
    prediction, targets = random_prediction()
    mean = prediction.mean[..., :3].clone().requires_grad_()
    log_variance = prediction.log_variance.clone().requires_grad_()
    near = torch.cat([mean.detach() + 0.1, targets[..., 3:]], dim=-1)
    loss = Prediction(mean, log_variance).change_loss(near, beta).sum()
    of_mean, of_log_variance = torch.autograd.grad(loss, [mean, log_variance])
    variance = prediction.log_variance.exp()
    torch.testing.assert_close(of_mean, -0.1 * variance ** (beta - 1), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        of_log_variance, 0.5 * (1 - 0.01 / variance) * variance**beta, rtol=1e-3, atol=1e-5
    )


def test_reward_likelihood_is_that_of_unit_variance_up_to_a_constant() -> None:
    prediction, targets = random_prediction()
    ends = torch.arange(15).view(3, 5) % 2
    mean = torch.where(ends == 1, prediction.mean[..., 4], prediction.mean[..., 3])
    expected = -Normal(mean, 1.0).log_prob(targets[..., 3])
    torch.testing.assert_close(
        prediction.reward_nll(targets, ends.float()), expected - 0.5 * math.log(2 * math.pi)
    )


def test_what_holds_given_the_end_is_the_mean_of_both_by_its_probability() -> None:
    pair = torch.tensor([[3.0, -5.0]]).expand(3, 2)
    assert given_end(pair, torch.tensor([0.0, 1.0, 0.25])).tolist() == [3.0, -5.0, 1.0]
    assert given_end(pair, torch.tensor([False, True, True])).tolist() == [3.0, -5.0, -5.0]


def test_prediction_has_two_means_for_the_reward_and_bounded_variances() -> None:
    dynamics = ensemble(3)
    with torch.no_grad():
        dynamics.networks.weights[-1].mul_(1000)
    with torch.no_grad():
        prediction = dynamics.predict(torch.randn(50, 2), torch.randn(50, 1))
    assert prediction.mean.shape == (3, 50, 4)
    assert prediction.log_variance.shape == (3, 50, 2)
    assert float(prediction.log_variance.min()) == pytest.approx(LOG_VARIANCE_MIN, abs=1e-3)
    assert float(prediction.log_variance.max()) == pytest.approx(LOG_VARIANCE_MAX, abs=1e-3)


def test_predictions_depend_on_the_normalised_inputs() -> None:
    dynamics = ensemble(2)
    observations, actions = torch.randn(6, 2), torch.randn(6, 1)
    expected = dynamics.predict(observations, actions)
    dynamics.normaliser.input_mean.copy_(torch.tensor([5.0, -3.0, 2.0]))
    dynamics.normaliser.input_scale.copy_(torch.tensor([2.0, 4.0, 0.5]))
    moved = dynamics.predict(
        observations * torch.tensor([2.0, 4.0]) + torch.tensor([5.0, -3.0]), actions * 0.5 + 2.0
    )
    torch.testing.assert_close(moved.mean, expected.mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved.log_variance, expected.log_variance, atol=1e-5, rtol=1e-4)


def test_decoding_by_hand() -> None:
    dynamics = ensemble(2)
    dynamics.normaliser.target_mean.copy_(torch.tensor([1.0, -1.0, 10.0]))
    dynamics.normaliser.target_scale.copy_(torch.tensor([2.0, 0.5, 3.0]))
    # Two members, one row each: the change's mean, and its standard deviations 1 and 2.
    mean = torch.tensor([[[0.5, 2.0, 1.0, 0.0]], [[0.0, -2.0, -1.0, 3.0]]])
    log_variance = torch.tensor([[[0.0, math.log(4.0)]], [[0.0, math.log(4.0)]]])
    observations = torch.tensor([[100.0, 200.0], [300.0, 400.0]])
    noise = torch.tensor([[1.0, -1.0], [0.0, 0.5]])
    following, rewards = dynamics.decode(observations, Prediction(mean, log_variance), noise)
    expected = torch.tensor(
        [
            [100 + 2 * (0.5 + 1) + 1, 200 + 0.5 * (2 - 2) - 1],
            [300 + 2 * 0.0 + 1, 400 + 0.5 * (-2 + 1) - 1],
        ]
    )
    torch.testing.assert_close(following, expected)
    torch.testing.assert_close(rewards, torch.tensor([[13.0, 10.0], [7.0, 19.0]]))


def test_decoded_states_carry_gradients_to_the_networks() -> None:
    dynamics = ensemble(2)
    observations, actions = torch.randn(6, 2), torch.randn(6, 1)
    prediction = dynamics.predict(dynamics.split(observations, 2), dynamics.split(actions, 2))
    following, _ = dynamics.decode(observations, prediction, torch.randn(6, 2))
    gradients = torch.autograd.grad(following.sum(), list(dynamics.networks.parameters()))
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_sample_has_the_mean_and_deviation_of_its_member() -> None:
    dynamics = ensemble(1)
    dynamics.normaliser.target_mean.copy_(torch.tensor([1.0, -1.0, 10.0]))
    dynamics.normaliser.target_scale.copy_(torch.tensor([2.0, 0.5, 3.0]))
    count = 20_000
    observations, actions = torch.tensor([[0.3, -0.4]]), torch.tensor([[0.7]])
    prediction = dynamics.predict(observations, actions)
    following, rewards = dynamics.sample(
        observations.expand(count, 2), actions.expand(count, 1), torch.Generator().manual_seed(0)
    )
    scale = torch.tensor([2.0, 0.5])
    mean = observations[0] + prediction.mean[0, 0, :2] * scale + torch.tensor([1.0, -1.0])
    deviation = torch.exp(0.5 * prediction.log_variance[0, 0]) * scale
    error = 5 * deviation.max().item() / math.sqrt(count)
    torch.testing.assert_close(following.mean(0), mean, atol=error, rtol=0)
    torch.testing.assert_close(following.std(0), deviation, atol=error, rtol=0)
    # Rewards are the head's mean, without noise.
    expected = prediction.mean[0, 0, 2:] * 3.0 + 10.0
    torch.testing.assert_close(rewards, expected.expand(count, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 5, 14, 100])
def test_rows_come_back_in_their_own_place(count: int) -> None:
    dynamics = telltale_ensemble(5)
    observations = torch.arange(count, dtype=torch.float32).unsqueeze(-1).expand(count, 2)
    following, rewards = dynamics.sample(
        observations, torch.zeros(count, 1), torch.Generator().manual_seed(0)
    )
    assert following.shape == (count, 2)
    assert rewards.shape == (count, 2)
    own_change = following - observations
    member = (own_change / 100).round()
    # The change of one member and nothing of another row, and the rewards of that same member.
    assert (own_change - 100 * member).abs().max() < 0.1
    assert torch.equal(torch.stack([member[:, 0], -member[:, 0]], dim=1), rewards.round())
    assert torch.equal(member[:, 0], member[:, 1])


@pytest.mark.parametrize("count", [1, 7, 30])
def test_rows_are_predicted_from_their_own_inputs(count: int) -> None:
    dynamics = ensemble(3)
    with torch.no_grad():  # three equal members, almost without noise
        for parameter in dynamics.networks.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter).clone())
        dynamics.networks.biases[-1][..., OBSERVATION_DIM + 2 :] = -1000.0
    observations, actions = torch.randn(count, 2), torch.randn(count, 1)
    mean = dynamics.predict(observations, actions).mean[0]
    following, rewards = dynamics.sample(observations, actions, torch.Generator().manual_seed(0))
    torch.testing.assert_close(following, observations + mean[:, :2], atol=0.05, rtol=0)
    torch.testing.assert_close(rewards, mean[:, 2:])


def test_full_deals_use_every_member_equally() -> None:
    dynamics = telltale_ensemble(5)
    _, rewards = dynamics.sample(
        torch.zeros(40, 2), torch.zeros(40, 1), torch.Generator().manual_seed(0)
    )
    assert torch.bincount(rewards[:, 0].round().long(), minlength=5).tolist() == [8] * 5


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_every_row_draws_its_member_uniformly(count: int) -> None:
    members, repeats = 5, 2000
    dynamics = telltale_ensemble(members)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [
            dynamics.sample(torch.zeros(count, 2), torch.zeros(count, 1), generator)[1][:, 0]
            for _ in range(repeats)
        ]
    )
    drawn = drawn.round().long()
    expected = repeats / members
    for row in range(count):
        counts = torch.bincount(drawn[:, row], minlength=members).double()
        chi_squared = float(((counts - expected).square() / expected).sum())
        assert chi_squared < 30, f"row {row}: members drawn {counts.tolist()}"


def test_named_members_alone_are_drawn() -> None:
    dynamics = telltale_ensemble(5)
    _, rewards = dynamics.sample(
        torch.zeros(60, 2),
        torch.zeros(60, 1),
        torch.Generator().manual_seed(0),
        members=torch.tensor([4, 1]),
    )
    assert torch.bincount(rewards[:, 0].round().long(), minlength=5).tolist() == [0, 30, 0, 0, 30]


def test_sampling_repeats_with_its_seed() -> None:
    dynamics = ensemble(3)
    observations, actions = torch.randn(10, 2), torch.randn(10, 1)
    draws = [
        dynamics.sample(observations, actions, torch.Generator().manual_seed(seed))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_known_termination_is_zero_or_one() -> None:
    settings = small_settings("mbpo")
    dynamics = DynamicsEnsemble(4, 1, settings, inverted_pendulum)
    following = torch.zeros(3, 4)
    following[:, 1] = torch.tensor([0.1, 0.3, -0.3])
    ended = dynamics.termination(torch.zeros(3, 4), torch.zeros(3, 1), following)
    assert ended.tolist() == [0.0, 1.0, 1.0]
    assert ended.dtype == torch.float32
    assert dynamics.termination_head is None


def test_learned_termination_is_the_probability_of_its_logit() -> None:
    dynamics = ensemble(2)
    rows = torch.randn(6, 2), torch.randn(6, 1), torch.randn(6, 2)
    logit = dynamics.termination_logit(*rows).detach().numpy()
    assert logit.shape == (6,)
    assert len(np.unique(logit)) == 6
    np.testing.assert_allclose(
        dynamics.termination(*rows).detach().numpy(), 1 / (1 + np.exp(-logit)), rtol=1e-5
    )
