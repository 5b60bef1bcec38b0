"""Tests of how an agent judges its classifier and estimates its bound: on which rows, by whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnm.policy import numpy_weights
from tests.mnm.agent_variants import train
from tests.mnm.small_cases import (
    parameters_of,
    ready_agent,
    same_tensors,
    small_agent,
)


def test_classifier_is_judged_on_held_out_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = small_agent("mnm")
    train(agent, 0, 40)
    classifier, answers = agent.networks.classifier, iter([1.0, -1.0, 0.5])
    assert classifier is not None
    seen: list[Tensor] = []

    def judge(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        logits = torch.full((len(inputs),), next(answers))
        logits[0] = -4.0  # wrong of the first real row, right of the first imagined one
        return logits

    monkeypatch.setattr(classifier, "forward", judge)
    figures = agent.judge_classifier()
    assert [len(inputs) for inputs in seen] == [4, 4, 1024]
    assert agent.networks.dynamics is not None
    held_out = agent.replay.holdout(1000)
    expected = agent.networks.dynamics.normaliser.inputs(held_out.observations, held_out.actions)
    for half in seen[:2]:
        assert torch.equal(half[:, :3], expected)
    assert figures["classifier_accuracy"] == pytest.approx((3 / 4 + 1) / 2)
    assert figures["classifier_logit_real"] == pytest.approx((3 * 1 - 4) / 4)
    assert figures["classifier_logit_imagined"] == pytest.approx((3 * -1 - 4) / 4)
    assert figures["classifier_logit_pool"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("algo", ["mnm", "mnm-approx"])
def test_classifier_and_bound_are_judged_by_the_members_that_imagine(
    algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = ready_agent(algo)
    dynamics, horizon = agent.networks.dynamics, agent.settings.bound_horizon
    assert dynamics is not None
    used: list[list[int] | None] = []
    plain = dynamics.sample

    def sample(*words: Any) -> tuple[Tensor, Tensor]:
        used.append(None if words[3] is None else words[3].tolist())
        return plain(*words)

    monkeypatch.setattr(dynamics, "sample", sample)
    agent.judge_classifier()
    assert len(used) == 2  # at the real and at the pool's (s, a)
    agent.bound_samples(np.zeros((1, 2)), [np.ones(horizon)], [False])
    assert len(used) == 2 + horizon
    assert all(members == (None if algo == "mnm" else dynamics.elites.tolist()) for members in used)


def test_the_bound_is_of_the_policy_whose_weights_are_given_and_leaves_the_present_one() -> None:
    agent = ready_agent("mnm")
    policy = agent.networks.policy
    other = numpy_weights(small_agent("mnm", seed=5).networks.policy)
    before, state = parameters_of(policy), agent.generator.get_state()
    bounds = []
    for weights in (None, numpy_weights(policy), other):
        agent.generator.set_state(state)
        episode = np.ones(agent.settings.bound_horizon)
        samples = agent.bound_samples(np.zeros((1, 2)), [episode], [False], weights)
        bounds.append(samples.bounds)
    np.testing.assert_array_equal(bounds[0], bounds[1])
    assert not np.array_equal(bounds[0], bounds[2])
    assert same_tensors(parameters_of(policy), before)
