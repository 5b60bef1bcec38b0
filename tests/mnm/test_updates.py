"""Tests of the joint update: every target and loss against a computation of its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution
from torch.nn import functional

from mnm import Agent
from mnm.agent_networks import Networks
from mnm.critics import TwinCritics
from mnm.dynamics import DynamicsEnsemble
from mnm.policy import TanhGaussianPolicy
from mnm.replay import Batch
from mnm.settings import ALGORITHMS, BOUNDS, CLASSIFIER_PAIRS
from mnm.terminations import never_terminates
from tests.mnm.small_cases import (
    SPACES,
    parameters_of,
    random_transitions,
    same_tensors,
    small_agent,
)

CENTER, HALF_RANGE = 1.0, 3.0  # of the actions of `SPACES`


def ready_agent(algo: str, **changes: Any) -> Agent:
    """An agent with real and imagined transitions and a fitted model that has made no update."""
    agent = small_agent(algo, **{"termination": None, **changes})
    rows = random_transitions(60)
    rows.terminateds[::7] = True
    agent.ingest(rows)
    agent.fit_if_due()
    request = agent.rollout_request()
    if request is not None:
        agent.ingest_synthetic(agent.imagine(request))
    return agent


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


def soft_value(networks: Networks, observations: Tensor, noise: Tensor) -> Tensor:
    actions, log_probability = draw_actions(networks.policy, observations, noise)
    value = smaller_value(networks.target_critics, observations, actions)
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
        following = soft_value(before, batch.next_observations, noise)
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
        loss, _, _ = before.classifier.loss(*inputs, draws)
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
        following = soft_value(before, batch.next_observations, noise)
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
            agent.networks.stopping.network.weights[-1].normal_()
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
        reward_losses.append(0.5 * (mean[:, 2] - targets[rows, 2]).square())
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
        floor = float(agent.replay.all_rows().rewards.min())
        rewards = torch.cat([real.rewards, predicted[9:].clamp_min(floor)])
        if transform["reward_transform"] == "exp":
            log_reward = (1.5 * rewards).exp().log()
        else:
            log_reward = (rewards + 0.2).log()
        logit = after.classifier(after.classifier.inputs(normaliser, *columns, imagined))
        assert bool((logit.abs() > 0.05).any())
        logit = logit.clip(-0.05, 0.05)
        ended = after.dynamics.termination(*columns, imagined)
        next_value = soft_value(before, imagined, torch.randn(18, 1, generator=draws))
        following = (1 - ended) * next_value + ended * terminal_value
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

    predicted = torch.tensor([9.0, 1.0, -10.0])
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
        0.5 * -2 - 0.25 * 2 + 0.5 * log_two + 0.5 * (0.75 * 7.5 + 0.25 * log_two),
    ]
    assert target.tolist() == pytest.approx(expected, abs=1e-5)
    assert batch.rewards.tolist() == [3.0, 77.0, 77.0]
    assert agent.joint_update.read_statistics()["rewards_floored"] == 1.0


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_value_is_above_that_of_the_largest_reward_for_ever(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Critics that are far too high outside the data neither teach themselves nor the model."""
    agent = ready_agent("mnm", gamma=0.9, reward_beta=2.0, initial_alpha=0.5, bound=bound)
    networks, update = agent.networks, agent.joint_update
    largest = float(agent.replay.all_rows().rewards.max())
    ceiling = 2.0 * largest + math.log(10) + 0.5 * math.log(2) * 0.9 / 0.1
    batch, number_real = update._mixed_batch()
    assert update._bound_target(batch, number_real).max() < ceiling
    networks.critics.set_output_bias(1e6)
    networks.target_critics.set_output_bias(1e6)
    ended = torch.zeros(len(batch.rewards))
    assert networks.dynamics is not None
    monkeypatch.setattr(networks.dynamics, "termination", lambda *_: ended)
    target = update._bound_target(batch, number_real)
    torch.testing.assert_close(target, torch.full_like(target, ceiling))


def test_the_model_is_not_led_to_values_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """It moves as one that looks at no value."""
    agents = [
        ready_agent("mnm", model_value_weight=weight, termination=never_terminates)
        for weight in (1.0, 0.0)
    ]
    for agent in agents:
        critics = agent.networks.critics
        monkeypatch.setattr(critics, "smaller", lambda states, _: 1e6 + 5 * states[:, 0])
        agent.joint_update._update_classifier_and_model()
    led, not_led = (parameters_of(agent.networks) for agent in agents)
    for name, parameter in led.items():
        torch.testing.assert_close(parameter, not_led[name])


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


@pytest.mark.parametrize("pairs", CLASSIFIER_PAIRS)
def test_model_step_moves_model_and_classifier_only(pairs: str) -> None:
    agent = ready_agent("mnm", classifier_pairs=pairs)
    networks = agent.networks
    before = parameters_of(networks)
    agent.joint_update._update_classifier_and_model()
    after = parameters_of(networks)
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("dynamics.networks.", "classifier.")) for name in moved)
    assert {name.split(".")[0] for name in moved} == {"dynamics", "classifier"}
    for module in (networks.policy, networks.critics, networks.target_critics):
        assert all(parameter.grad is None for parameter in module.parameters())
    assert networks.log_alpha.grad is None


@pytest.mark.parametrize("algo", ["mnm", "mnm-approx"])
@pytest.mark.parametrize("pairs", CLASSIFIER_PAIRS)
def test_the_imagined_half_is_at_the_state_and_action_asked_for(
    algo: str, pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = ready_agent(algo, classifier_pairs=pairs)
    update = agent.joint_update
    assert agent.synthetic is not None
    assert agent.networks.dynamics is not None
    halves: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(
        update, "_update_classifier", lambda real, imagined: halves.append((real, imagined))
    )
    if algo == "mnm":
        update._update_classifier_and_model()
    else:
        update._update_mnm_approx()
    ((real, imagined),) = halves
    pool = agent.synthetic.all_rows()
    of_pool = agent.networks.dynamics.normaliser.inputs(pool.observations, pool.actions)
    width = of_pool.shape[1]
    distance = torch.cdist(imagined[:, :width], of_pool).min(1).values
    if pairs == "pool":
        assert len(imagined) == len(real)
        assert float(distance.max()) < 1e-3
        assert not torch.equal(imagined[:, :width], real[:, :width])
    else:
        torch.testing.assert_close(imagined[:, :width], real[:, :width])
        assert float(distance.median()) > 1e-3
    assert not imagined.requires_grad


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_actor_critic_step_leaves_model_and_classifier_alone(algo: str) -> None:
    agent = ready_agent(algo)
    networks = agent.networks
    before = parameters_of(networks)
    gradients = {name: value.grad for name, value in networks.named_parameters()}
    batch, number_real = agent.joint_update._mixed_batch()
    target = batch.rewards
    if algo == "mnm":
        target = agent.joint_update._bound_target(batch, number_real)
    assert not target.requires_grad
    agent.joint_update._update_actor_critic(batch, target)
    after = parameters_of(networks)
    still = {name for name in after if torch.equal(before[name], after[name])}
    for name, parameter in networks.named_parameters():
        if name.startswith(("dynamics.", "classifier.")):
            assert name in still
            assert parameter.grad is gradients[name]
    assert "log_alpha" not in still
    assert not still & {name for name, _ in networks.policy.named_parameters(prefix="policy")}


def test_model_learns_to_lead_to_value(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = ready_agent("mnm", likelihood_weight=0.0, log_ratio_weight=0.0, model_lr=1e-3)
    networks = agent.networks
    assert networks.dynamics is not None

    def value(observations: Tensor, actions: Tensor) -> Tensor:
        return 5 * observations[:, 0] - 5 * observations[:, 1]

    monkeypatch.setattr(networks.critics, "smaller", value)
    batch = agent.replay.all_rows()
    changes = []
    for _ in range(2):
        with torch.no_grad():
            prediction = networks.dynamics.predict(batch.observations, batch.actions)
        changes.append(prediction.mean[..., :2].mean((0, 1)))
        for _ in range(40):
            agent.joint_update._update_classifier_and_model()
    assert changes[1][0] > changes[0][0] + 0.1
    assert changes[1][1] < changes[0][1] - 0.1


def test_model_learns_to_look_real(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = ready_agent("mnm", likelihood_weight=0.0, log_ratio_weight=1.0, model_lr=1e-3)
    networks = agent.networks
    assert networks.dynamics is not None
    assert networks.classifier is not None
    monkeypatch.setattr(networks.critics, "smaller", lambda rows, actions: 0 * rows[:, 0])
    # A classifier that takes large first changes for real; the input is (s, a, s' - s).
    monkeypatch.setattr(networks.classifier, "forward", lambda inputs: 3 * inputs[:, 3])
    monkeypatch.setattr(agent.joint_update, "_update_classifier", lambda real, imagined: None)
    batch = agent.replay.all_rows()
    changes = []
    for _ in range(2):
        with torch.no_grad():
            prediction = networks.dynamics.predict(batch.observations, batch.actions)
        changes.append(float(prediction.mean[..., 0].mean()))
        for _ in range(40):
            agent.joint_update._update_classifier_and_model()
    assert changes[1] > changes[0] + 0.1


def test_model_gradient_is_clipped() -> None:
    clipped, free = (
        ready_agent("mnm", model_grad_clip=0.01),
        ready_agent("mnm", model_grad_clip=1e9),
    )
    norms = []
    for agent in (clipped, free):
        agent.joint_update._update_classifier_and_model()
        assert agent.networks.dynamics is not None
        gradients = [parameter.grad for parameter in agent.networks.dynamics.networks.parameters()]
        norms.append(float(torch.cat([part.flatten() for part in gradients]).norm()))
    assert norms[0] == pytest.approx(0.01, rel=1e-3)
    assert norms[1] > 0.02


def test_target_critics_follow_by_polyak_averaging() -> None:
    agent = ready_agent("sac", tau=0.3)
    before = parameters_of(agent.networks.target_critics)
    agent.joint_update.run(1)
    critics = parameters_of(agent.networks.critics)
    after = parameters_of(agent.networks.target_critics)
    for name in before:
        torch.testing.assert_close(after[name], 0.7 * before[name] + 0.3 * critics[name])


@pytest.mark.parametrize(("target_entropy", "rises"), [(50.0, True), (-50.0, False)])
def test_temperature_moves_towards_the_target_entropy(target_entropy: float, rises: bool) -> None:
    agent = ready_agent("sac", target_entropy=target_entropy)
    before = agent.networks.log_alpha.item()
    statistics = agent.joint_update.run(5)
    assert (agent.networks.log_alpha.item() > before) == rises
    assert (statistics["policy_entropy"] < target_entropy) == rises


def test_automatic_target_entropy_is_minus_the_action_width() -> None:
    assert small_agent("sac").joint_update.target_entropy == -1
    assert small_agent("sac", target_entropy=-0.25).joint_update.target_entropy == -0.25


@pytest.mark.parametrize(("mean_logit", "rises"), [(-1.0, True), (0.5, False)])
def test_dual_weight_grows_while_the_ratio_is_below_its_target(
    mean_logit: float, rises: bool
) -> None:
    agent = small_agent("mnm-approx", classifier_reward_weight="auto", log_ratio_target=-0.1)
    before = float(agent.joint_update._classifier_reward_weight())
    assert before == pytest.approx(0.1)
    for _ in range(10):
        agent.joint_update._update_classifier_reward_weight(torch.full((8,), mean_logit))
    after = float(agent.joint_update._classifier_reward_weight())
    assert (after > before) == rises


def test_dual_weight_rests_at_its_target() -> None:
    agent = small_agent("mnm-approx", classifier_reward_weight="auto", log_ratio_target=-0.25)
    before = float(agent.joint_update._classifier_reward_weight())
    agent.joint_update._update_classifier_reward_weight(torch.full((8,), -0.25))
    assert float(agent.joint_update._classifier_reward_weight()) == before


@pytest.mark.parametrize("weight", ["auto", 0.3])
def test_dual_update_runs_only_where_it_is_asked_for(weight: Any) -> None:
    agent = ready_agent("mnm-approx", classifier_reward_weight=weight, log_ratio_target=-3.0)
    before = agent.networks.log_classifier_reward_weight.item()
    agent.joint_update.run(5)
    after = agent.networks.log_classifier_reward_weight.item()
    assert (after < before) if weight == "auto" else (after == before)


@pytest.mark.parametrize(("ratio", "number_real"), [(0.0, 0), (0.25, 4), (0.5, 8), (1.0, 16)])
def test_mixed_batch_has_real_rows_first(ratio: float, number_real: int) -> None:
    agent = ready_agent("mbpo", real_ratio=ratio)
    batch, counted = agent.joint_update._mixed_batch()
    assert counted == number_real
    assert len(batch.rewards) == 16
    real = {tuple(row) for row in agent.replay.all_rows().next_observations.tolist()}
    are_real = [tuple(row) in real for row in batch.next_observations.tolist()]
    assert are_real == [True] * number_real + [False] * (16 - number_real)


def test_batch_is_all_real_before_anything_is_imagined() -> None:
    agent = small_agent("mnm")
    agent.ingest(random_transitions(30))
    _, number_real = agent.joint_update._mixed_batch()
    assert number_real == 16


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_statistics_are_means_over_the_call(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = ready_agent(algo)
    seen: list[float] = []
    means = agent.joint_update._means
    add = means.add

    def listen(**values: Tensor) -> None:
        if "critic_loss" in values:
            seen.append(values["critic_loss"].item())
        add(**values)

    monkeypatch.setattr(means, "add", listen)
    statistics = agent.joint_update.run(4)
    assert len(seen) == 4
    assert statistics["critic_loss"] == pytest.approx(np.mean(seen), rel=1e-5)
    assert all(math.isfinite(value) for value in statistics.values())
    names = {"critic_loss", "q_value", "q_target", "policy_entropy", "alpha"}
    if agent.settings.has_classifier:
        names |= {"classifier_loss", "classifier_train_accuracy"}
    if algo == "mnm":
        names |= {"model_objective", "model_nll", "log_reward", "log_ratio", "rewards_floored"}
    assert names <= set(statistics)
    agent.joint_update.run(1)
    assert agent.joint_update.read_statistics() == {}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_gradient_norms_are_those_of_the_last_update(algo: str) -> None:
    agent = ready_agent(algo)
    statistics = agent.joint_update.run(3)
    names = {"critics", "policy"} | ({"classifier"} if agent.settings.has_classifier else set())
    for name in names:
        gradients = [
            parameter.grad.flatten()
            for parameter in agent.joint_update.optimizers[name].param_groups[0]["params"]
        ]
        norm = torch.cat(gradients).norm().item()
        assert norm > 0
        assert statistics[f"{name}_gradient_norm"] == pytest.approx(norm, rel=1e-4), name


def test_copied_networks_share_nothing() -> None:
    agent = ready_agent("mnm")
    copied = copy.deepcopy(agent.networks)
    before = parameters_of(copied)
    agent.joint_update.run(1)
    assert same_tensors(parameters_of(copied), before)
    assert isinstance(copied.dynamics, DynamicsEnsemble)
    assert SPACES.action_dim == 1


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_nothing_is_read_from_the_device_between_updates(
    algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten updates read as often as one does: their statistics, once at the end."""
    agent = ready_agent(algo)
    agent.joint_update.run(1)
    reads = 0

    def counting(read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return read(*arguments)

        return counted

    for name in ("tolist", "item", "numpy", "cpu", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(Tensor, name, counting(getattr(Tensor, name)))
    of_runs = []
    for updates in (1, 10):
        reads = 0
        agent.joint_update.run(updates)
        of_runs.append(reads)
    assert of_runs[0] == of_runs[1] > 0
