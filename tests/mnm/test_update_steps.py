"""Tests of the joint update's steps: what each moves and whereto, its batch, its statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnm.settings import ALGORITHMS, CLASSIFIER_PAIRS
from mnm.terminations import never_terminates
from tests.mnm.small_cases import (
    parameters_of,
    random_transitions,
    ready_agent,
    small_agent,
)


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
def test_the_imagined_half_is_of_the_present_model_at_the_state_and_action_asked_for(
    algo: str, pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = ready_agent(algo, classifier_pairs=pairs)
    update = agent.joint_update
    assert agent.synthetic is not None
    assert agent.networks.dynamics is not None
    with torch.no_grad():  # since the pool was filled: s moves by 7 scales, with hardly any noise
        for parameter in agent.networks.dynamics.networks.parameters():
            parameter.zero_()
        outputs = agent.networks.dynamics.networks.biases[-1]
        outputs[..., :2], outputs[..., 4:] = 7.0, -100.0
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
    torch.testing.assert_close(
        imagined[:, width:], torch.full_like(imagined[:, width:], 7.0), atol=0.1, rtol=0.0
    )
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


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_targets_keep_no_graph_of_earlier_updates(algo: str) -> None:
    agent = ready_agent(algo)
    agent.joint_update.run(2)
    targets = list(agent.networks.target_critics.parameters())
    assert targets
    assert not any(target.requires_grad for target in targets)


@pytest.mark.parametrize(("mean_logit", "limit"), [(-1.0, 100.0), (0.5, 1e-4)])
def test_dual_weight_stays_within_its_range(mean_logit: float, limit: float) -> None:
    agent = small_agent(
        "mnm-approx", classifier_reward_weight="auto", classifier_reward_weight_lr=1.0
    )
    for _ in range(30):
        agent.joint_update._update_classifier_reward_weight(torch.full((8,), mean_logit))
    assert float(agent.joint_update._classifier_reward_weight()) == pytest.approx(limit)


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
