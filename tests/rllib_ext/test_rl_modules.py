"""Tests of the RLModules: the scale of actions, saving and loading, what runners do not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule

from mnm.settings import ALGORITHMS
from rllib_ext.rl_modules import WORLD_MODULE_ID, PolicyModule
from tests.line_tasks import HIGH, LOW
from tests.mnm.small_cases import small_settings
from tests.rllib_ext.small_configs import tiny_config

OBSERVATIONS = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS = gym.spaces.Box(LOW, HIGH, (1,), np.float32)
FORWARDS = ["forward_inference", "forward_exploration"]


def module() -> PolicyModule:
    torch.manual_seed(0)
    return PolicyModule(
        observation_space=OBSERVATIONS,
        action_space=ACTIONS,
        model_config={"settings": small_settings("mnm").to_dict()},
    )


def batch(rows: int = 500, size: float = 10.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {Columns.OBS: size * torch.randn(rows, 3, generator=generator)}


def saturate(made: PolicyModule, mean: float) -> PolicyModule:
    """Makes the Gaussian's mean so large that tanh is at its end."""
    with torch.no_grad():
        made.policy.layers[-1].weight.zero_()
        made.policy.layers[-1].bias.copy_(torch.tensor([mean, -100.0]))
    return made


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize(("mean", "action"), [(50.0, HIGH), (-50.0, LOW), (0.0, (LOW + HIGH) / 2)])
def test_actions_are_in_the_tasks_own_units(forward: str, mean: float, action: float) -> None:
    out = getattr(saturate(module(), mean), forward)(batch())
    expected = torch.full((500, 1), action)
    torch.testing.assert_close(out[Columns.ACTIONS], expected, atol=0.15, rtol=0.0)
    assert torch.equal(out[Columns.ACTIONS_FOR_ENV], out[Columns.ACTIONS])


def test_a_loaded_checkpoint_acts_on_the_same_scale(tmp_path: Path) -> None:
    saved = module()
    saved.save_to_path(tmp_path / "policy")
    loaded = RLModule.from_checkpoint(str(tmp_path / "policy"))
    assert isinstance(loaded, PolicyModule)
    first, second = (made.forward_inference(batch())[Columns.ACTIONS] for made in (saved, loaded))
    assert torch.equal(first, second)
    assert first.min() < LOW + 0.5 * (HIGH - LOW) < first.max()
    assert first.min() >= LOW
    assert first.max() <= HIGH
    assert torch.equal(first, loaded.policy.deterministic(batch()[Columns.OBS]))


def test_inference_is_the_mode_and_exploration_is_not() -> None:
    made = module()
    once, again = (made.forward_inference(batch())[Columns.ACTIONS] for _ in range(2))
    assert torch.equal(once, again)
    drawn = [made.forward_exploration(batch())[Columns.ACTIONS] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert not drawn[0].requires_grad


def test_observations_of_double_precision_are_taken() -> None:
    double = {Columns.OBS: batch()[Columns.OBS].double()}
    assert torch.equal(
        module().forward_inference(double)[Columns.ACTIONS],
        module().forward_inference(batch())[Columns.ACTIONS],
    )


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_runners_hold_the_policy_only_and_the_learner_all(algo: Any) -> None:
    config = tiny_config(algo)
    spaces = {DEFAULT_MODULE_ID: (OBSERVATIONS, ACTIONS)}
    runners = config.get_multi_rl_module_spec(spaces=spaces, inference_only=True).build()
    learners = config.get_multi_rl_module_spec(spaces=spaces, inference_only=False).build()
    assert set(runners.keys()) == {DEFAULT_MODULE_ID}
    assert set(learners.keys()) == {DEFAULT_MODULE_ID, WORLD_MODULE_ID}
    world = learners[WORLD_MODULE_ID]
    assert (world.dynamics is not None) == (algo != "sac")
    assert (world.classifier is not None) == (algo in ("mnm", "mnm-approx"))
    inputs = {**batch(7), Columns.ACTIONS: torch.zeros(7, 1)}
    assert world.forward_train(inputs)["q_values"].shape == (2, 7)
