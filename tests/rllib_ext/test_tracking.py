"""Tests of `--wandb` and `--mlflow`: Ray's callbacks are built, and what is missing is said."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.integrations import wandb as ray_wandb
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback

from rllib_ext import tracking
from rllib_ext.errors import UserError
from rllib_ext.tracking import tracking_callbacks


def test_without_the_options_nothing_is_tracked() -> None:
    assert tracking_callbacks(None, None) == []


def test_rays_own_callbacks_get_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Experiment(MLflowLoggerCallback):
        def __init__(self, **options: Any) -> None:  # Ray's imports mlflow here
            calls.append(options)

        def setup(self, *arguments: Any, **options: Any) -> None:
            calls.append("set up")

    monkeypatch.setattr(ray_wandb, "wandb", SimpleNamespace())  # as if it were installed
    monkeypatch.setattr(tracking, "MLflowLoggerCallback", Experiment)
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb, mlflow = tracking_callbacks("my-project", "my-experiment")
    assert isinstance(wandb, WandbLoggerCallback)
    assert wandb.project == "my-project"
    assert isinstance(mlflow, MLflowLoggerCallback)
    assert calls == [{"experiment_name": "my-experiment"}, "set up"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_gets_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_wandb, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=rf"^--{name} needs .*: pip install 'mnm-rl\[{name}\]'\.$"):
        tracking_callbacks(**{"wandb": None, "mlflow": None, name: "x"})


def test_what_a_tracker_lacks_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_wandb, "wandb", SimpleNamespace())
    for variable in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_SETUP_API_KEY_HOOK"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        UserError, match=r"--wandb cannot be used: No WandB API key found"
    ) as caught:
        tracking_callbacks("my-project", None)
    assert "\n" not in str(caught.value)
