"""Agents of every kind, how they are fed made-up transitions and how they are saved."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from mnm import Agent
from tests.mnm.small_cases import random_transitions, small_agent

VARIANTS: dict[str, dict[str, Any]] = {
    "sac": {"algo": "sac"},
    "mbpo": {"algo": "mbpo"},
    "mnm-approx": {"algo": "mnm-approx"},
    "mnm": {"algo": "mnm"},
    "mnm-approx with a learned weight": {"algo": "mnm-approx", "classifier_reward_weight": "auto"},
    "mnm with a classifier ensemble": {
        "algo": "mnm",
        "classifier_ensemble_size": 2,
        "classifier_input_noise": 0.1,
        "classifier_gradient_penalty": 0.1,
    },
    "mnm with learned stopping": {"algo": "mnm", "bound": "learned-stopping"},
    "mnm with normalised observations": {"algo": "mnm", "normalise_observations": True},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def variant_agent(variant: str, seed: int = 0, **changes: Any) -> Agent:
    options = {"termination": None, **VARIANTS[variant], **changes}
    return small_agent(options.pop("algo"), seed, **options)


def train(agent: Agent, first: int, last: int, chunk: int = 5) -> dict[str, float]:
    """Feeds rows first to last in chunks, learning after each."""
    statistics: dict[str, float] = {}
    for start in range(first, last, chunk):
        rows = random_transitions(chunk, first=start)
        rows.terminateds[-1] = True
        agent.ingest(rows)
        statistics.update(agent.learn())
    return statistics


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """What a file would give back, read with nothing but tensors and plain values allowed."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded
