"""Tests that what an algorithm builds has the pace and the termination rule of its config."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.flow import Pace
from mnm.terminations import hopper
from rllib_ext import actors
from rllib_ext.environments import probe_spaces
from tests.mnm.small_cases import SMALL
from tests.rllib_ext.small_configs import tiny_config
from tests.rllib_ext.whole_algorithms import ask_learner, built

pytestmark = pytest.mark.usefixtures("local_ray")


def test_pace_and_known_termination_are_those_of_the_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config("mnm", termination="mnm.terminations:hopper", max_weight_lag=70)
    config.env_runners(num_envs_per_env_runner=3, rollout_fragment_length=4, sample_timeout_s=17.0)
    with built(config) as algo:
        assert algo.coordinator.collectors.pace == Pace(
            vector_steps=4,
            steps_per_request=12,
            num_random_steps=SMALL["num_random_steps"],
            max_weight_lag=70,
            request_timeout_s=17.0,
        )
        known = ask_learner(
            algo, lambda learner: learner.core.agent.networks.dynamics.known_termination
        )
    assert known is hopper

    pools: list[tuple[Any, ...]] = []
    monkeypatch.setattr(actors, "RolloutPool", lambda *words: pools.append(words))
    with_pool = tiny_config("mnm", num_rollout_workers=1, termination="mnm.terminations:hopper")
    actors.build_pool(with_pool, probe_spaces(with_pool))
    ((_, number, _, _, known, *_),) = pools
    assert number == 1
    assert known is hopper
