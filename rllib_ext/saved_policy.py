"""Policies from checkpoints and exported files, read without running pickled code."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distributed.collector import Policy
from distributed.storage import Location
from mnm.policy import NumpyPolicy
from rllib_ext.checkpoint_files import AGENT_FILE, LEARNER_FOLDER, TASK_FILE, read_task_file
from rllib_ext.errors import UserError
from rllib_ext.ray_session import first_line

HEADER = "mnm_policy"  # name under which both export formats keep the header


@dataclass(frozen=True)
class PolicyHeader:
    """What a policy is of, in plain values.

    Attributes:
        env: Gymnasium id of the task.
        env_config: arguments that the task was made with, as `plain` gives them.
        algo: that trained it.
        observation_dim: width of an observation.
        action_low: [act] smallest actions.
        action_high: [act] largest actions.
        hidden_sizes: widths of the hidden layers.
    """

    env: str
    env_config: dict[str, Any]
    algo: str
    observation_dim: int
    action_low: list[float]
    action_high: list[float]
    hidden_sizes: list[int]

    def to_json(self) -> str:
        """As a header in an exported file."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> PolicyHeader:
        """What `to_json` wrote.

        Raises:
            TypeError: it is something else.
            ValueError: it is no JSON.
        """
        return PolicyHeader(**json.loads(text))


@dataclass(frozen=True)
class SavedPolicy:
    """A policy and what it is of.

    Attributes:
        header: what it is of.
        act: actions [N, act] for observations [N, obs] and a generator; None for the mode.
    """

    header: PolicyHeader
    act: Policy


def load_policy(source: Location | Path) -> SavedPolicy:
    """The policy of a checkpoint folder or of a file that `mnm export` wrote.

    Raises:
        UserError: it is neither, it is damaged, or a package that it needs is missing.
    """
    source = Location.of(source)
    if source.is_dir():
        header, weights = read_checkpoint_policy(source)
        return SavedPolicy(header, _numpy_policy(weights))
    if not source.is_file():
        raise UserError(f"There is no checkpoint folder or exported policy {source}.")
    content = source.read()
    # A safetensors file begins with the length of its JSON header in eight bytes.
    is_safetensors = content[8:9] == b"{"
    return (_load_safetensors if is_safetensors else _load_onnx)(source, content)


def read_checkpoint_policy(
    checkpoint: Location | Path,
) -> tuple[PolicyHeader, dict[str, Tensor]]:
    """Header and weights of a checkpoint's policy, from `task.json` and `agent.pt` alone.

    Raises:
        UserError: the folder is no checkpoint, or not a whole one.
    """
    checkpoint = Location.of(checkpoint)
    task, agent = read_task(checkpoint), read_agent(checkpoint)
    try:
        weights = weights_of(agent, "policy")
        spaces = agent["task"]
        header = PolicyHeader(
            env=task["env"],
            env_config=task["env_config"],
            algo=task["algo"],
            observation_dim=spaces["observation_dim"],
            action_low=spaces["action_low"],
            action_high=spaces["action_high"],
            hidden_sizes=_hidden_sizes(weights),
        )
    except Exception as error:  # whatever a damaged file may hold
        raise _damaged(checkpoint, error) from error
    return header, weights


def read_agent(checkpoint: Location | Path) -> dict[str, Any]:
    """What `Agent.state_dict` returned, from a checkpoint's `agent.pt`.

    Raises:
        UserError: it is missing or damaged.
    """
    checkpoint = Location.of(checkpoint)
    file = checkpoint / LEARNER_FOLDER / AGENT_FILE
    if not file.is_file():
        name = f"{LEARNER_FOLDER}/{AGENT_FILE}"
        raise UserError(f"The checkpoint {checkpoint} is not whole: {name} is missing.")
    try:
        return torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file may raise
        raise _damaged(checkpoint, error) from error


def weights_of(agent: Mapping[str, Any], network: str) -> dict[str, Tensor]:
    """The weights of one of an agent's networks, such as "policy"; empty where it has none."""
    prefix = f"{network}."
    return {
        name.removeprefix(prefix): value
        for name, value in agent["networks"].items()
        if name.startswith(prefix)
    }


def read_task(checkpoint: Location | Path) -> dict[str, Any]:
    """The task that a checkpoint was made on: its "env", "env_config" and "algo".

    Raises:
        UserError: the folder is missing, no checkpoint, or not a whole one.
    """
    checkpoint = Location.of(checkpoint)
    if not checkpoint.is_dir():
        raise UserError(f"There is no checkpoint folder {checkpoint}.")
    inner = checkpoint / "checkpoint"
    if not (checkpoint / TASK_FILE).is_file():
        if (inner / TASK_FILE).is_file():
            raise UserError(f"{checkpoint} is a run's folder: name {inner}.")
        raise UserError(f"{checkpoint} is not a checkpoint of mnm: it has no {TASK_FILE}.")
    try:
        return read_task_file(checkpoint.filesystem, checkpoint.path)
    except ValueError as error:
        raise UserError(str(error)) from error


def _load_safetensors(source: Location, content: bytes) -> SavedPolicy:
    try:
        # Only of a file does the package give the metadata.
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            tensors = safe_open(file.name, "np")
            header = PolicyHeader.from_json(tensors.metadata()[HEADER])
            weights = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        return SavedPolicy(header, NumpyPolicy(weights))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _not_exported(source) from error


def _load_onnx(source: Location, content: bytes) -> SavedPolicy:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{source} is no checkpoint and no safetensors file; to evaluate a policy exported as "
            "ONNX, install onnxruntime: pip install 'mnm-rl[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        header = PolicyHeader.from_json(session.get_modelmeta().custom_metadata_map[HEADER])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise _not_exported(source) from error

    def act(observations: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        return session.run(None, {"observations": observations.astype(np.float32)})[0]

    return SavedPolicy(header, act)


def _damaged(checkpoint: Location, error: Exception) -> UserError:
    return UserError(
        f"The checkpoint {checkpoint} is damaged: its networks cannot be read "
        f"({first_line(error)})."
    )


def _not_exported(source: Location) -> UserError:
    return UserError(
        f"{source} is no policy: name a checkpoint folder or a file that mnm export wrote."
    )


def _numpy_policy(weights: Mapping[str, Tensor]) -> NumpyPolicy:
    return NumpyPolicy({name: value.numpy() for name, value in weights.items()})


def _hidden_sizes(weights: Mapping[str, Tensor]) -> list[int]:
    """Widths of the hidden layers."""
    layers = sum(name.endswith(".weight") for name in weights)
    return [len(weights[f"layers.{layer}.bias"]) for layer in range(layers - 1)]
