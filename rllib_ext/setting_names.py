"""Which names `MnMConfig.training` takes, and what is said of those that it does not."""

from __future__ import annotations

import difflib
from dataclasses import fields

from mnm import Settings

SETTING_NAMES = tuple(field.name for field in fields(Settings))
# Those that are not of the algorithm.
OWN_NAMES = (
    "num_rollout_workers",
    "max_num_rollout_workers",
    "num_cpus_per_rollout_worker",
    "num_gpus_per_rollout_worker",
    "custom_resources_per_rollout_worker",
    "max_weight_lag",
    "termination",
)
# RLlib's own training settings that MnM's learner would ignore, and what to use instead.
REPLACED_SETTINGS = {
    "lr": "actor_lr, critic_lr, alpha_lr, dynamics_lr, classifier_lr and model_lr",
    "grad_clip": "model_grad_clip",
    "train_batch_size": "batch_size",
    "train_batch_size_per_learner": "batch_size",
    "num_epochs": "updates_to_data_ratio",
    "minibatch_size": "batch_size",
}


def unknown_setting(name: str) -> str:
    """The sentence that refuses a name and says which ones are near."""
    near = difflib.get_close_matches(name, (*SETTING_NAMES, *OWN_NAMES), n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"Unknown setting {name!r}: the settings are those of MnMConfig.training{hint}"


def replaced_setting(name: str) -> str:
    """The sentence that refuses one of `REPLACED_SETTINGS`."""
    return f"{name} has no effect on MnM: use {REPLACED_SETTINGS[name]} in training()."
