"""Tests of the maximum-likelihood fit: early stopping, elites, hold-out, learned termination."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from mnm.dynamics import DynamicsEnsemble
from mnm.model_fit import SHORTEST_EPOCH, FitReport, ModelFitter
from mnm.replay import ReplayBuffer
from tests.mnm.small_cases import parameters_of, random_transitions, same_tensors, small_settings


def replay_of(count: int, seed: int = 0) -> ReplayBuffer:
    replay = ReplayBuffer(count, 2, 1, "cpu")
    rows = random_transitions(count, seed)
    rows.terminateds = rows.next_observations[:, 0] > 1.0
    replay.append(rows)
    return replay


def fitter_of(known: bool = True, seed: int = 0, algo: str = "mbpo", **changes: Any) -> ModelFitter:
    torch.manual_seed(seed)
    settings = small_settings(algo, **{"dynamics_max_fit_steps": 300, **changes})

    def never(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        return torch.zeros(len(following), dtype=torch.bool)

    return ModelFitter(DynamicsEnsemble(2, 1, settings, never if known else None), settings)


def refitter_of(**changes: Any) -> ModelFitter:
    """A fitter whose first, longer fit is over."""
    fitter = fitter_of(**changes)
    fitter.fits = 1
    return fitter


def fit(fitter: ModelFitter, replay: ReplayBuffer, seed: int = 0) -> FitReport:
    return fitter.fit(replay, torch.Generator().manual_seed(seed))


def held_out(dynamics: DynamicsEnsemble, replay: ReplayBuffer) -> tuple[Tensor, Tensor, Tensor]:
    """Means [E, N, obs + 1], of the reward that given the end, log-variances and normalised targets
    on the rows held out."""
    batch = replay.holdout(len(replay))
    observations, actions = batch.observations, batch.actions
    raw = torch.cat([batch.next_observations - observations, batch.rewards.unsqueeze(-1)], dim=1)
    targets = (raw - dynamics.normaliser.target_mean) / dynamics.normaliser.target_scale
    with torch.no_grad():
        prediction = dynamics.predict(observations, actions)
    mean = prediction.mean
    reward = torch.where(batch.terminateds > 0, mean[..., 3], mean[..., 2])
    return torch.cat([mean[..., :2], reward[..., None]], -1), prediction.log_variance, targets


def member_losses(dynamics: DynamicsEnsemble, replay: ReplayBuffer) -> Tensor:
    """Held-out -log q of each member: nats per dimension, the reward's with unit variance."""
    mean, log_variance, targets = held_out(dynamics, replay)
    change = Normal(mean[..., :2], torch.exp(0.5 * log_variance))
    nll = -change.log_prob(targets[:, :2].expand_as(mean[..., :2])).mean((1, 2))
    return nll + 0.5 * (mean[..., 2] - targets[:, 2]).square().mean(1)


def test_fit_learns_linear_dynamics() -> None:
    fitter, replay = fitter_of(dynamics_max_fit_steps=400), replay_of(600)
    report = fit(fitter, replay)
    # Noise of 0.05 on a change of deviation about 0.36 leaves an error of 0.14 of a scale.
    assert report.holdout_rmse < 0.25
    mean, _, targets = held_out(fitter.dynamics, replay)
    untrained, _, _ = held_out(fitter_of(seed=9).dynamics, replay)
    assert (mean - targets).square().mean() < 0.3 * (untrained - targets).square().mean()


@pytest.mark.parametrize("algo", ["mbpo", "mnm"])
def test_report_gives_the_figures_of_the_members_that_imagine(algo: str) -> None:
    fitter, replay = fitter_of(algo=algo), replay_of(300)
    report = fit(fitter, replay)
    mean, log_variance, targets = held_out(fitter.dynamics, replay)
    members = fitter.dynamics.elites if algo == "mbpo" else torch.arange(len(mean))
    assert len(fitter.dynamics.elites) < len(mean)
    change, expected = targets[:, :2], mean[members][..., :2]
    distribution = Normal(expected, torch.exp(0.5 * log_variance[members]))
    nll = -distribution.log_prob(change.expand_as(expected)).mean()
    assert report.holdout_nll == pytest.approx(float(nll), abs=1e-4)
    rmse = math.sqrt(float((expected - change).square().mean()))
    assert report.holdout_rmse == pytest.approx(rmse, abs=1e-4)


def test_elites_are_the_members_of_smallest_held_out_loss() -> None:
    fitter = fitter_of(ensemble_size=5, num_elites=2, dynamics_max_fit_steps=40)
    replay = replay_of(300)
    with torch.no_grad():  # three members start so badly that a short fit cannot mend them
        for member in (0, 2, 3):
            fitter.dynamics.networks.biases[-1][member] += 50.0
    fit(fitter, replay)
    losses = member_losses(fitter.dynamics, replay)
    assert set(fitter.dynamics.elites.tolist()) == {1, 4}
    assert fitter.dynamics.elites.tolist() == losses.argsort()[:2].tolist()


def test_fit_never_makes_the_held_out_loss_worse() -> None:
    replay = replay_of(300)
    fitter = fitter_of()
    fit(fitter, replay)
    before = member_losses(fitter.dynamics, replay)
    for group in fitter.optimizer.param_groups:
        group["lr"] = 0.3  # far too large: every epoch spoils most members
    for seed in range(3):
        fit(fitter, replay, seed)
        after = member_losses(fitter.dynamics, replay)
        assert bool((after <= before + 1e-4).all())
        before = after


def test_a_hopeless_fit_leaves_the_members_as_they_were() -> None:
    replay = replay_of(300)
    fitter = fitter_of()
    fit(fitter, replay)
    before = parameters_of(fitter.dynamics.networks)
    for group in fitter.optimizer.param_groups:
        group["lr"] = 100.0
    report = fit(fitter, replay)
    assert same_tensors(parameters_of(fitter.dynamics.networks), before)
    assert report.steps > 0


def test_fit_stops_at_the_step_limit_four_times_as_late_at_first() -> None:
    fitter = fitter_of(dynamics_max_fit_steps=60, dynamics_fit_patience=1000)
    assert [fit(fitter, replay_of(300)).steps for _ in range(3)] == [240, 60, 60]


def test_fit_stops_when_patience_is_used_up() -> None:
    fitter = fitter_of(dynamics_max_fit_steps=10_000, dynamics_fit_patience=2)
    for group in fitter.optimizer.param_groups:
        group["lr"] = 1e-12  # no epoch improves anything
    assert fit(fitter, replay_of(300)).steps == 2 * SHORTEST_EPOCH


@pytest.mark.parametrize(("least", "kept"), [(0.0, True), (1e-3, True), (100.0, False)])
def test_parameters_are_kept_only_where_the_loss_fell_enough(least: float, kept: bool) -> None:
    fitter = fitter_of(dynamics_max_fit_steps=50, dynamics_fit_min_delta=least)
    before = parameters_of(fitter.dynamics.networks)
    fit(fitter, replay_of(300))
    assert same_tensors(parameters_of(fitter.dynamics.networks), before) != kept


def test_fit_trains_on_no_held_out_row(monkeypatch: pytest.MonkeyPatch) -> None:
    fitter, replay = refitter_of(dynamics_max_fit_steps=50), replay_of(100)
    seen: list[Tensor] = []
    rows_at = replay.rows_at

    def record(slots: Tensor) -> Any:
        seen.append(slots)
        return rows_at(slots)

    monkeypatch.setattr(replay, "rows_at", record)
    fit(fitter, replay)
    slots = torch.cat([slots.flatten() for slots in seen])
    assert len(seen) == 50
    assert seen[0].shape == (3, 16)
    trained_on = set(replay.rows_at(slots).rewards.tolist())
    held_out = set(replay.holdout(100).rewards.tolist())
    assert (len(trained_on), len(held_out)) == (90, 10)
    assert trained_on.isdisjoint(held_out)


def test_members_are_trained_on_rows_of_their_own() -> None:
    fitter, replay = fitter_of(), replay_of(300)
    with torch.no_grad():  # all members start alike
        for parameter in fitter.dynamics.networks.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    fit(fitter, replay)
    weights = fitter.dynamics.networks.weights[0]
    assert not torch.allclose(weights[0], weights[1])
    assert not torch.allclose(weights[1], weights[2])


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_one_step_follows_the_gradient_of_each_members_mean_likelihood(beta: float) -> None:
    changes = {"dynamics_max_fit_steps": 1, "dynamics_nll_beta": beta}
    fitter, replay = refitter_of(**changes), replay_of(100)
    fitter.dynamics.normaliser.refresh(replay.all_rows())
    slots = replay.training_slots((3, 16), torch.Generator().manual_seed(0))
    batch = replay.rows_at(slots)
    targets = fitter.dynamics.normaliser.targets(batch)
    losses = []
    for member in range(3):
        prediction = fitter.dynamics.predict(
            batch.observations[member : member + 1],
            batch.actions[member : member + 1],
            torch.tensor([member]),
        )
        deviation = torch.exp(0.5 * prediction.log_variance[0])
        change = Normal(prediction.mean[0, :, :2], deviation).log_prob(targets[member, :, :2])
        ends = batch.terminateds[member] > 0
        assert 0 < ends.sum() < len(ends)
        mean_reward = torch.where(ends, prediction.mean[0, :, 3], prediction.mean[0, :, 2])
        reward = 0.5 * (mean_reward - targets[member, :, 2]).square()
        losses.append(reward.mean() - (change * deviation.detach() ** (2 * beta)).mean())
    parameters = list(fitter.dynamics.networks.parameters())
    expected = torch.autograd.grad(torch.stack(losses).sum(), parameters)
    fit(fitter, replay)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_normaliser_is_refreshed_from_every_row() -> None:
    fitter, replay = fitter_of(dynamics_max_fit_steps=1), replay_of(100)
    fit(fitter, replay)
    batch = replay.all_rows()
    torch.testing.assert_close(
        fitter.dynamics.normaliser.input_mean[:2], batch.observations.mean(0)
    )
    torch.testing.assert_close(
        fitter.dynamics.normaliser.target_scale[2], batch.rewards.std(), atol=1e-4, rtol=1e-4
    )


def test_termination_head_learns_where_the_task_ends() -> None:
    fitter, replay = fitter_of(known=False, dynamics_max_fit_steps=400), replay_of(600)
    fit(fitter, replay)
    fresh = replay_of(400, seed=7).all_rows()
    with torch.no_grad():
        ended = fitter.dynamics.termination(
            fresh.observations, fresh.actions, fresh.next_observations
        )
    correct = (ended > 0.5).float() == fresh.terminateds
    assert 0.05 < float(fresh.terminateds.mean()) < 0.5
    assert float(correct.float().mean()) > 0.95


def test_what_an_end_pays_is_not_spread_over_the_states_before_it() -> None:
    """A hundred for the end and nothing else, as for a task done once: with one reward for both,
    states near the end would pay for ever what only the end does."""
    fitter = fitter_of(known=False, dynamics_max_fit_steps=400)
    replay = ReplayBuffer(600, 2, 1, "cpu")
    rows = random_transitions(600)
    rows.terminateds = rows.next_observations[:, 0] > 2.0
    rows.rewards = np.where(rows.terminateds, 100.0, 0.0).astype(np.float32)
    replay.append(rows)
    fit(fitter, replay)
    fresh = random_transitions(400, seed=7)
    with torch.no_grad():
        _, rewards = fitter.dynamics.sample(
            torch.as_tensor(fresh.observations),
            torch.as_tensor(fresh.actions),
            torch.Generator().manual_seed(0),
        )
    ends = fresh.next_observations[:, 0] > 2.0
    assert 0.01 < ends.mean() < 0.1
    assert rewards[:, 0].abs().max() < 5.0
    assert (rewards[ends, 1] - 100.0).abs().mean() < 20.0


def test_weight_decay_is_given_layer_by_layer() -> None:
    fitter = fitter_of(known=False, dynamics_weight_decay=(0.1, 0.2, 0.3))
    decays = [group["weight_decay"] for group in fitter.optimizer.param_groups]
    assert decays == [0.1, 0.2, 0.3, 0]
    for layer, group in enumerate(fitter.optimizer.param_groups[:3]):
        assert group["params"][0] is fitter.dynamics.networks.weights[layer]


def test_fit_repeats_with_its_seed() -> None:
    results = []
    for seed in (1, 1, 2):
        fitter = fitter_of()
        fit(fitter, replay_of(200), seed)
        results.append(parameters_of(fitter.dynamics))
    assert same_tensors(results[0], results[1])
    assert not same_tensors(results[0], results[2])
