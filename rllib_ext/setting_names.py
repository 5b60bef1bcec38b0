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


def unknown_setting(name: str) -> str:
    """The sentence that refuses a name and says which ones are near."""
    near = difflib.get_close_matches(name, (*SETTING_NAMES, *OWN_NAMES), n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"Unknown setting {name!r}: the settings are those of MnMConfig.training{hint}"
