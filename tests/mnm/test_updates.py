"""Tests of the joint update: every target and loss against a computation of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.nn import functional

from mnm import Agent
from mnm.agent_networks import Networks
from mnm.critics import TwinCritics
from mnm.policy import TanhGaussianPolicy
from mnm.replay import Batch
from mnm.settings import BOUNDS
from tests.mnm.small_cases import random_transitions, ready_agent, small_agent

CENTER, HALF_RANGE = 1.0, 3.0  # of the actions of `SPACES`


def same_draws(agent: Agent) -> torch.Generator:
    """A generator that will give the numbers that the agent's own is about to give."""
    generator = torch.Generator()
    generator.set_state(agent.generator.get_state())
    return generator


def draw_actions(
    policy: TanhGaussianPolicy, observations: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Scaled actions and unscaled log-probabilities by torch's own distributions."""
    mean, log_std = policy.distribution(observations)
    squashed = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)]
    )
    unscaled = torch.tanh(mean + log_std.exp() * noise)
    return CENTER + HALF_RANGE * unscaled, squashed.log_prob(unscaled)


def smaller_value(critics: TwinCritics, observations: Tensor, actions: Tensor) -> Tensor:
    first, second = critics(observations, actions)
    return torch.minimum(first, second)


def next_value(networks: Networks, observations: Tensor, noise: Tensor) -> Tensor:
    """Of the target critics; soft, but under learned stopping."""
    actions, log_probability = draw_actions(networks.policy, observations, noise)
    value = smaller_value(networks.target_critics, observations, actions)
    if networks.stopping is not None:
        return value
    return value - networks.log_alpha.exp() * log_probability


def assert_gradients(module: nn.Module, loss: Tensor, taken_from: nn.Module) -> None:
    """The gradient of `loss` for `module` is the one that the step on `taken_from` used."""
    parameters = list(module.parameters())
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(taken_from.parameters(), expected, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, atol=2e-6, rtol=2e-3)


def assert_actor_critic_gradients(
    before: Networks,
    after: Networks,
    batch: Batch,
    target: Tensor,
    noise: Tensor,
    target_entropy: float,
) -> None:
    """Critic, policy and temperature gradients of SAC, given the critics' target."""
    values = before.critics(batch.observations, batch.actions)
    loss = functional.mse_loss(values[0], target) + functional.mse_loss(values[1], target)
    assert_gradients(before.critics, loss, after.critics)

    actions, log_probability = draw_actions(before.policy, batch.observations, noise)
    value = smaller_value(after.critics, batch.observations, actions)  # the critics moved first
    alpha = before.log_alpha.exp().detach()
    assert_gradients(before.policy, (alpha * log_probability - value).mean(), after.policy)

    assert after.log_alpha.grad is not None
    entropy = -log_probability.mean().item()
    assert after.log_alpha.grad.item() == pytest.approx(entropy - target_entropy, abs=1e-4)


def test_sac_update_is_that_of_the_paper() -> None:
    agent = ready_agent("sac", gamma=0.9, initial_alpha=0.3)
    before, draws = copy.deepcopy(agent.networks), same_draws(agent)
    agent.joint_update.run(1)

    batch = agent.replay.sample(16, draws)
    assert 0 < float(batch.terminateds.sum()) < 16
    with torch.no_grad():
        noise = torch.randn(16, 1, generator=draws)
        following = next_value(before, batch.next_observations, noise)
        target = batch.rewards + 0.9 * (1 - batch.terminateds) * following
    noise = torch.randn(16, 1, generator=draws)
    assert_actor_critic_gradients(before, agent.networks, batch, target, noise, -1.0)


@pytest.mark.parametrize("algo", ["mbpo", "mnm-approx"])
def test_model_based_updates_learn_from_a_mixed_batch(algo: str) -> None:
    weight, clip = 0.7, 0.05
    changes = {"classifier_reward_weight": weight, "logit_clip": clip, "real_ratio": 0.25}
    agent = ready_agent(algo, gamma=0.9, **changes)
    before, draws = copy.deepcopy(agent.networks), same_draws(agent)
    agent.joint_update.run(1)
    after, dynamics, classifier = agent.networks, before.dynamics, agent.networks.classifier
    assert agent.synthetic is not None
    assert dynamics is not None

    if algo == "mnm-approx":
        assert before.classifier is not None
        real = agent.replay.sample_training(16, draws)
        imagined, _ = dynamics.sample(real.observations, real.actions, draws, dynamics.elites)
        columns = real.observations, real.actions
        inputs = [
            before.classifier.inputs(dynamics.normaliser, *columns, following.detach())
            for following in (real.next_observations, imagined)
        ]
        loss, *_ = before.classifier.loss(*inputs, draws)
        assert classifier is not None
        assert_gradients(before.classifier, loss, classifier)

    real, imagined_rows = agent.replay.sample(4, draws), agent.synthetic.sample(12, draws)
    batch = Batch(
        *(torch.cat([getattr(real, name), getattr(imagined_rows, name)]) for name in vars(real))
    )
    rewards = batch.rewards.clone()
    if classifier is not None:
        logit = classifier(
            classifier.inputs(
                dynamics.normaliser,
                imagined_rows.observations,
                imagined_rows.actions,
                imagined_rows.next_observations,
            )
        )
        assert bool((logit.abs() > clip).any())
        rewards[4:] += weight * logit.detach().clip(-clip, clip)
    with torch.no_grad():
        noise = torch.randn(16, 1, generator=draws)
        following = next_value(before, batch.next_observations, noise)
        target = rewards + 0.9 * (1 - batch.terminateds) * following
    noise = torch.randn(16, 1, generator=draws)
    assert_actor_critic_gradients(before, after, batch, target, noise, -1.0)


@pytest.mark.parametrize("bound", ["fixed", "learned-stopping"])
@pytest.mark.parametrize("known_termination", [True, False])
@pytest.mark.parametrize(
    "transform",
    [
        {"reward_transform": "exp", "reward_beta": 1.5},
        {"reward_transform": "shift", "reward_shift": 0.2},
    ],
)
def test_joint_update_is_the_full_objective(
    bound: str, known_termination: bool, transform: dict[str, Any]
) -> None:
    gamma, weight, likelihood, value_weight = 0.9, 0.6, 0.4, 0.7
    termination = None
    if known_termination:

        def termination(observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
            return following[:, 1] > 0.3

    agent = ready_agent(
        "mnm",
        termination=termination,
        gamma=gamma,
        log_ratio_weight=weight,
        likelihood_weight=likelihood,
        model_value_weight=value_weight,
        logit_clip=0.05,
        classifier_label_smoothing=0.2,
        model_grad_clip=1e9,
        real_ratio=0.5,
        batch_size=18,
        bound=bound,
        **transform,
    )
    if agent.networks.stopping is not None:
        with torch.no_grad():  # so that it depends on (s, a)
            draws = torch.Generator().manual_seed(0)
            agent.networks.stopping.network.weights[-1].normal_(generator=draws)
    before, draws = copy.deepcopy(agent.networks), same_draws(agent)
    agent.joint_update.run(1)
    after = agent.networks
    assert before.dynamics is not None
    assert before.classifier is not None
    assert after.dynamics is not None
    assert after.classifier is not None
    assert agent.synthetic is not None
    log_terminal = math.log(0.2) if transform["reward_transform"] == "shift" else 0.0
    terminal_value = log_terminal - math.log(1 - gamma)

    # Classifier and model: 18 rows, six for each of the three members, in order.
    real = agent.replay.sample_training(18, draws)
    noise = torch.randn(18, 2, generator=draws)
    normaliser = before.dynamics.normaliser
    raw = torch.cat([real.next_observations - real.observations, real.rewards[:, None]], dim=1)
    targets = (raw - normaliser.target_mean) / normaliser.target_scale
    imagined_parts, change_losses, reward_losses = [], [], []
    for member in range(3):
        rows = slice(6 * member, 6 * member + 6)
        prediction = before.dynamics.predict(
            real.observations[rows], real.actions[rows], torch.tensor([member])
        )
        mean, deviation = prediction.mean[0], torch.exp(0.5 * prediction.log_variance[0])
        change = mean[:, :2] + deviation * noise[rows]
        change = change * normaliser.target_scale[:2] + normaliser.target_mean[:2]
        imagined_parts.append(real.observations[rows] + change)
        change_losses.append(-Normal(mean[:, :2], deviation).log_prob(targets[rows, :2]))
        reward = torch.where(real.terminateds[rows] > 0, mean[:, 3], mean[:, 2])
        reward_losses.append(0.5 * (reward - targets[rows, 2]).square())
    assert 0 < real.terminateds.sum() < 18
    imagined = torch.cat(imagined_parts)

    columns = real.observations, real.actions
    on_real = before.classifier(
        before.classifier.inputs(normaliser, *columns, real.next_observations)
    )
    on_imagined = before.classifier(
        before.classifier.inputs(normaliser, *columns, imagined.detach())
    )
    classifier_loss = 0.5 * (
        functional.binary_cross_entropy_with_logits(on_real, torch.full((18,), 0.9))
        + functional.binary_cross_entropy_with_logits(on_imagined, torch.full((18,), 0.1))
    )
    assert_gradients(before.classifier, classifier_loss, after.classifier)

    actions, _ = draw_actions(before.policy, imagined, torch.randn(18, 1, generator=draws))
    value = smaller_value(before.critics, imagined, actions)
    ended = before.dynamics.termination(*columns, imagined)
    logit = after.classifier(after.classifier.inputs(normaliser, *columns, imagined))  # moved first
    following = value_weight * ((1 - ended) * value + ended * terminal_value)
    if before.stopping is None:
        objective = weight * logit + gamma * following
    else:
        going_on = 1 - before.stopping(normaliser, *columns).detach()
        objective = going_on * (weight * logit + following)
    model_loss = (
        likelihood * torch.stack(change_losses).sum(-1).mean()
        + torch.stack(reward_losses).mean()
        - objective.mean()
    )
    assert_gradients(before.dynamics.networks, model_loss, after.dynamics.networks)

    # Critics: nine real and nine imagined rows, their s' drawn anew from the moved model.
    real, pool = agent.replay.sample(9, draws), agent.synthetic.sample(9, draws)
    batch = Batch(*(torch.cat([getattr(real, name), getattr(pool, name)]) for name in vars(real)))
    with torch.no_grad():
        columns = batch.observations, batch.actions
        imagined, predicted = after.dynamics.sample(*columns, draws)
        rows = agent.replay.all_rows().rewards
        predicted = predicted.clamp(rows.min(), rows.max())
        ended = after.dynamics.termination(*columns, imagined)
        if transform["reward_transform"] == "exp":
            log_real, log_pair = 1.5 * real.rewards, 1.5 * predicted
        else:
            log_real, log_pair = (real.rewards + 0.2).log(), (predicted + 0.2).log()
        log_predicted = (1 - ended) * log_pair[:, 0] + ended * log_pair[:, 1]
        log_reward = torch.cat([log_real, log_predicted[9:]])
        logit = after.classifier(after.classifier.inputs(normaliser, *columns, imagined))
        assert bool((logit.abs() > 0.05).any())
        logit = logit.clip(-0.05, 0.05)
        value = next_value(before, imagined, torch.randn(18, 1, generator=draws))
        following = (1 - ended) * value + ended * terminal_value
    if before.stopping is None:
        target = (1 - gamma) * (log_reward - math.log(1 - gamma))
        target = target + weight * logit + gamma * following
    else:
        assert after.stopping is not None
        stop = before.stopping(normaliser, *columns)
        assert stop.detach().std() > 0.01
        target = stop * (log_reward - stop.log()) + (1 - stop) * (
            math.log(gamma) - (1 - stop).log() + weight * logit + following
        )
        assert_gradients(before.stopping, -target.mean(), after.stopping)
        target = target.detach()
    noise = torch.randn(18, 1, generator=draws)
    assert_actor_critic_gradients(before, after, batch, target, noise, -1.0)


def test_bound_target_of_three_rows_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent(
        "mnm", gamma=0.5, reward_beta=2.0, log_ratio_weight=0.25, logit_clip=2.0, initial_alpha=1.0
    )
    networks = agent.networks
    assert networks.dynamics is not None
    assert networks.classifier is not None
    agent.rewards.smallest, agent.rewards.largest = -1.0, 3.0

    def always(*values: Any) -> Callable[..., Any]:
        result = values[0] if len(values) == 1 else values
        return lambda *arguments: result

    # Of a transition that goes on and of one that ends, as the second row does.
    predicted = torch.tensor([[9.0, 9.0], [-5.0, 1.0], [-10.0, 2.0]])
    monkeypatch.setattr(networks.dynamics, "sample", always(torch.zeros(3, 2), predicted))
    monkeypatch.setattr(networks.dynamics, "termination", always(torch.tensor([0.0, 1.0, 0.25])))
    monkeypatch.setattr(networks.classifier, "forward", always(torch.tensor([1.0, 5.0, -7.0])))
    monkeypatch.setattr(
        networks.policy, "sample", always(torch.zeros(3, 1), torch.tensor([0.5, 0.5, 0.5]))
    )
    monkeypatch.setattr(networks.target_critics, "smaller", always(torch.tensor([4.0, 6.0, 8.0])))
    batch = Batch(
        torch.zeros(3, 2),
        torch.zeros(3, 1),
        torch.tensor([3.0, 77.0, 77.0]),  # only the first row is real
        torch.full((3, 2), 77.0),
        torch.zeros(3),
    )
    target = agent.joint_update._bound_target(batch, 1)
    log_two = 0.6931471805599453
    expected = [
        0.5 * 6 + 0.25 * 1 + 0.5 * log_two + 0.5 * 3.5,
        0.5 * 2 + 0.25 * 2 + 0.5 * log_two + 0.5 * log_two,
        0.5 * (0.75 * -2 + 0.25 * 4) - 0.5 + 0.5 * log_two + 0.5 * (0.75 * 7.5 + 0.25 * log_two),
    ]
    assert target.tolist() == pytest.approx(expected, abs=1e-5)
    assert batch.rewards.tolist() == [3.0, 77.0, 77.0]
    assert agent.joint_update.read_statistics()["rewards_floored"] == 0.75


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_value_is_above_that_of_the_largest_reward_for_ever(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Critics that are far too high outside the data neither teach themselves nor the model."""
    agent = ready_agent("mnm", gamma=0.9, reward_beta=2.0, initial_alpha=0.5, bound=bound)
    networks, update = agent.networks, agent.joint_update
    largest = float(agent.replay.all_rows().rewards.max())
    bonus = 0.5 * math.log(2) * 0.9 / 0.1 if bound == "fixed" else 0.0
    ceiling = 2.0 * largest + math.log(10) + bonus
    batch, number_real = update._mixed_batch()
    assert update._bound_target(batch, number_real).max() < ceiling
    networks.critics.set_output_bias(1e6)
    networks.target_critics.set_output_bias(1e6)
    ended = torch.zeros(len(batch.rewards))
    assert networks.dynamics is not None
    monkeypatch.setattr(networks.dynamics, "termination", lambda *_: ended)
    target = update._bound_target(batch, number_real)
    torch.testing.assert_close(target, torch.full_like(target, ceiling))


def test_bound_of_a_constant_reward_is_a_fixed_point_of_its_target() -> None:
    """r = 1 everywhere and gamma = 0.9: both sides of the bound are log 10."""
    agent = small_agent("mnm", gamma=0.9, log_ratio_weight=0.0)
    rows = random_transitions(40)
    rows.rewards[:] = 0.0  # exp(beta 0) = 1
    agent.ingest(rows)
    networks = agent.networks
    with torch.no_grad():
        networks.log_alpha.fill_(-100.0)  # no entropy bonus
        for critics in (networks.critics, networks.target_critics):
            critics.networks.weights[-1].zero_()
            critics.set_output_bias(math.log(10))
    batch = agent.replay.sample(20, agent.generator)
    target = agent.joint_update._bound_target(batch, 20)
    torch.testing.assert_close(target, torch.full((20,), math.log(10)), atol=1e-5, rtol=0)


def test_learned_stopping_collects_no_bonus_of_the_temperature() -> None:
    """A wide policy at a high temperature: values and stop probabilities are those of the reward
    alone, log 10 and 1 - gamma for r = 1 everywhere and gamma = 0.9."""
    agent = small_agent(
        "mnm", gamma=0.9, log_ratio_weight=0.0, bound="learned-stopping", stop_lr=0.01, tau=1.0
    )
    rows = random_transitions(40)
    rows.rewards[:] = 0.0  # exp(beta 0) = 1
    agent.ingest(rows)
    networks = agent.networks
    with torch.no_grad():
        networks.log_alpha.fill_(math.log(5.0))
        for critics in (networks.critics, networks.target_critics):
            critics.networks.weights[-1].zero_()
            critics.set_output_bias(math.log(10))
    batch = agent.replay.sample(20, agent.generator)
    for _ in range(50):
        target = agent.joint_update._bound_target(batch, 20)
    torch.testing.assert_close(target, torch.full((20,), math.log(10)), atol=1e-4, rtol=0)
    assert agent.joint_update.read_statistics()["stop_probability"] == pytest.approx(0.1, abs=1e-3)
