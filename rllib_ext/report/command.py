"""The `mnm train` command that makes a run again."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import fields
from typing import Any

import yaml

from distributed.storage import without_key
from mnm import Settings
from rllib_ext.run_plan import RunPlan
from rllib_ext.train_command import train
from rllib_ext.tuned import tuned_settings

ALWAYS = ("env", "algo", "steps", "num_env_runners", "num_rollout_workers", "seed")
DEFAULTS = {name: given.default for name, given in inspect.signature(train).parameters.items()}


def train_command(plan: RunPlan) -> str:
    """The command line with every option that is not its default, and every untuned setting.

    It makes the plan of a run from the start; how often that was resumed does not show. Keys that
    URIs may have are left out.
    """
    words = ["mnm", "train"]
    for name in [*ALWAYS, *(field.name for field in fields(plan) if field.name not in ALWAYS)]:
        value = getattr(plan, name)
        if name not in DEFAULTS or (name not in ALWAYS and value in (DEFAULTS[name], [])):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        else:
            for each in value if isinstance(value, list) else [value]:
                words += [option, without_key(str(each))]
    tuned = tuned_settings(plan.env, plan.algo)
    preset = Settings.preset(plan.algo).to_dict()
    # What was tuned since the run was made would else count as well.
    wanted = {name: preset[name] for name in tuned if name in preset} | plan.settings
    for name, value in wanted.items():
        if name not in tuned or tuned[name] != value:
            words += ["--set", f"{name}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: Any) -> str:
    """A value as `--set` reads it."""
    if isinstance(value, str) and value and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, separators=(",", ":"))
