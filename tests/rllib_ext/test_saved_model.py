"""Tests of reading a checkpoint's dynamics model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mnm import Agent
from rllib_ext.environments import task_spaces
from rllib_ext.errors import UserError
from rllib_ext.saved_model import load_model
from tests.line_tasks import Line
from tests.mnm.small_cases import small_settings
from tests.rllib_ext.small_checkpoints import AGENT, write_checkpoint

SPACES = task_spaces(Line().observation_space, Line().action_space)


@pytest.mark.parametrize("algo", ["mnm", "mbpo"])
def test_a_saved_model_predicts_as_the_one_that_was_saved(tmp_path: Path, algo: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", algo=algo)
    agent = Agent(SPACES, small_settings(algo, ensemble_size=4, num_elites=3), seed=3)
    assert agent.networks.dynamics is not None
    agent.networks.dynamics.elites.copy_(torch.tensor([3, 0, 2]))
    torch.save(agent.state_dict(), checkpoint / AGENT)
    saved = load_model(checkpoint)
    assert saved is not None
    observations, actions = torch.randn(5, 3), torch.randn(5, 1)
    ours, theirs = (
        model.predict(observations, actions) for model in (saved.dynamics, agent.networks.dynamics)
    )
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.log_variance, theirs.log_variance)
    members = None if saved.members is None else saved.members.tolist()
    assert members == (None if algo == "mnm" else [3, 0, 2])


def test_sac_has_no_model(tmp_path: Path) -> None:
    assert load_model(write_checkpoint(tmp_path / "checkpoint", algo="sac")) is None


def test_a_damaged_model_gets_one_sentence(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    state = torch.load(checkpoint / AGENT, weights_only=True)
    del state["networks"]["dynamics.elites"]
    torch.save(state, checkpoint / AGENT)
    with pytest.raises(UserError, match="is damaged: its model cannot be read") as caught:
        load_model(checkpoint)
    assert "\n" not in str(caught.value)
