"""Saved states of random generators and optimizers, taken over by those of another agent."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor


def load_generator(generator: torch.Generator, state: Tensor) -> None:
    """Takes over the state of a generator; of one on another kind of device, which cannot be gone
    on from here, a seed that follows from it."""
    if state.shape == generator.get_state().shape:
        generator.set_state(state)
    else:
        digest = hashlib.blake2b(state.numpy().tobytes(), digest_size=7).digest()
        generator.manual_seed(int.from_bytes(digest, "little"))


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes over an optimizer's moments; rates and weight decays stay those of the settings."""
    own = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, (rate, decay) in zip(optimizer.param_groups, own, strict=True):
        group["lr"], group["weight_decay"] = rate, decay
