"""Under exp, mnm and mnm-approx have one critic target, up to a change of units."""

from __future__ import annotations

import math

import torch

from mnm import Agent
from mnm.replay import Batch
from tests.mnm.small_cases import SPACES, random_transitions, small_settings

GAMMA, BETA, WEIGHT = 0.9, 0.7, 0.3


def agent_of_the_family(algo: str) -> Agent:
    settings = small_settings(
        algo, gamma=GAMMA, reward_beta=BETA, log_ratio_weight=WEIGHT, reward_transform="exp"
    )
    agent = Agent(SPACES, settings, lambda o, a, following: following[:, 0] > 0.3, seed=0)
    agent.ingest(random_transitions(60))
    return agent


def test_exp_makes_the_targets_one_family() -> None:
    scale = (1 - GAMMA) * BETA
    exact, approx = agent_of_the_family("mnm"), agent_of_the_family("mnm-approx")
    assert exact.networks.dynamics is not None
    assert exact.networks.classifier is not None
    approx.networks.load_state_dict(exact.networks.state_dict())
    with torch.no_grad():
        # Values in the units of the reward, zero where nothing is earned any more.
        critics = approx.networks.target_critics.networks
        critics.weights[-1].div_(scale)
        critics.biases[-1].add_(math.log(1 - GAMMA)).div_(scale)
        approx.networks.log_alpha.sub_(math.log(scale))
        batch = exact.replay.sample(32, exact.generator)
        before = exact.generator.get_state()
        imagined, _ = exact.networks.dynamics.sample(
            batch.observations, batch.actions, exact.generator
        )
        approx.generator.set_state(exact.generator.get_state())
        exact.generator.set_state(before)
        classifier, normaliser = exact.networks.classifier, exact.networks.dynamics.normaliser
        logit = classifier(
            classifier.inputs(normaliser, batch.observations, batch.actions, imagined)
        )
        ended = exact.networks.dynamics.termination(batch.observations, batch.actions, imagined)
        assert 0 < ended.mean() < 1  # both cases are in the batch

        bound = exact.joint_update._bound_target(batch, len(batch.rewards))
        plain = approx.joint_update._reward_target(
            Batch(batch.observations, batch.actions, batch.rewards, imagined, ended),
            batch.rewards + WEIGHT / scale * logit,
        )
    torch.testing.assert_close((bound + math.log(1 - GAMMA)) / scale, plain, rtol=1e-4, atol=1e-4)
