"""Experiment trackers of `mnm train`: Ray's own callbacks for Weights & Biases and MLflow."""

from __future__ import annotations

from collections.abc import Callable

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.air.integrations.wandb import WandbLoggerCallback

from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line


def tracking_callbacks(wandb: str | None, mlflow: str | None) -> list[tune.Callback]:
    """Callbacks that send every result of a run to the trackers asked for.

    Args:
        wandb: project of Weights & Biases; None: not sent there.
        mlflow: experiment of MLflow, on the server or store of MLFLOW_TRACKING_URI; None: not sent
            there.

    Raises:
        UserError: a tracker's package is missing, or it cannot be used as it is set up.
    """
    callbacks = []
    if wandb is not None:
        callbacks.append(_ready("wandb", lambda: WandbLoggerCallback(project=wandb)))
    if mlflow is not None:
        callbacks.append(_ready("mlflow", lambda: MLflowLoggerCallback(experiment_name=mlflow)))
    return callbacks


def _ready(name: str, build: Callable[[], tune.Callback]) -> tune.Callback:
    """A callback that has been set up once, so that what is wrong is said before the run."""
    try:
        callback = build()
    except (ImportError, RuntimeError) as error:  # the second is what Ray's raises for wandb
        raise UserError(
            f"--{name} needs a package that is not installed: pip install 'mnm-rl[{name}]'."
        ) from error
    try:
        callback.setup()
    except Exception as error:  # each tracker has its own
        raise UserError(f"--{name} cannot be used: {first_line(error)}") from error
    return callback
