"""Building whole algorithms, asking their learners, and damaging their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP

from mnm import Transitions
from rllib_ext import MnM, MnMConfig
from rllib_ext.learner import MnMLearner

AGENT = f"{COMPONENT_LEARNER_GROUP}/{COMPONENT_LEARNER}/agent.pt"
REPLAY = f"{COMPONENT_LEARNER_GROUP}/{COMPONENT_LEARNER}/replay"


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


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
