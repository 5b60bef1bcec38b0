"""The operations behind the arithmetic limits, against PyTorch's own counter."""

from __future__ import annotations

from functools import partial

import pytest
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fit import fit_flops
from benchmarks.learner import sac_flops
from benchmarks.learner_device import ready_agent
from benchmarks.rollouts import inline, rollout_flops
from mnm import RolloutRequest, Settings


def counted(work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def model_agent():
    settings = Settings.preset(
        "mbpo", num_random_steps=0, dynamics_max_fit_steps=1, dynamics_fit_patience=1
    )
    return ready_agent(settings, "cpu")


def test_sac_update():
    agent = ready_agent(Settings.preset("sac", num_random_steps=0), "cpu")
    assert counted(partial(agent.joint_update.run, 1)) == pytest.approx(sac_flops(), rel=0.01)


def test_step_of_the_model_fit(model_agent):
    fitter, replay, settings = model_agent.fitter, model_agent.replay, model_agent.settings
    shape = (settings.ensemble_size, settings.dynamics_batch_size)
    batch = replay.rows_at(replay.training_slots(shape, model_agent.generator))
    expected = fit_flops(settings) * shape[0] * shape[1]
    assert counted(partial(fitter._step, batch)) == pytest.approx(expected, rel=0.01)


def test_imagined_transition(model_agent):
    starts = model_agent.replay.sample(100, model_agent.generator).observations.numpy()
    request = RolloutRequest(starts, length=2, seed=0)
    transitions = 200
    flops = counted(partial(inline, model_agent, request))
    assert flops == pytest.approx(transitions * rollout_flops(model_agent.settings), rel=0.01)
