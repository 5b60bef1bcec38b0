"""Building whole algorithms and asking their learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mnm import Transitions
from rllib_ext import MnM, MnMConfig
from rllib_ext.learner import MnMLearner


@contextmanager
def built(config: MnMConfig) -> Iterator[MnM]:
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


def ask_learner(algo: MnM, question: Callable[[MnMLearner], Any]) -> Any:
    (answer,) = algo.learner_group.foreach_learner(question)
    return answer.get()


def weights_of(algo: MnM) -> dict[str, torch.Tensor]:
    return ask_learner(
        algo,
        lambda learner: {
            name: value.cpu().clone()
            for name, value in learner.core.agent.networks.state_dict().items()
        },
    )


def replay_of(algo: MnM) -> Transitions:
    return ask_learner(algo, lambda learner: learner.core.agent.replay.transitions())
