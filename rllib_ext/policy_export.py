"""Writes a checkpoint's policy as one file that other programs read without pickles."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from distributed.storage import Location
from mnm.policy import NORMALISER_MEAN, TanhGaussianPolicy
from rllib_ext.errors import UserError
from rllib_ext.saved_policy import HEADER, PolicyHeader, read_checkpoint_policy

FORMATS = ("torch", "onnx")


def export_policy(checkpoint: Location | Path, file_format: str, output: Path) -> None:
    """Writes the policy of a checkpoint to one file, whole or not at all.

    Args:
        checkpoint: folder that a run or `MnM.save_to_path` wrote.
        file_format: "torch": the weights as safetensors, by their names in
            `mnm.policy.TanhGaussianPolicy`; "onnx": a graph from `observations` float32 [N, obs] to
            `actions` float32 [N, act], the mode in the environment's units. Both carry a
            `PolicyHeader` as JSON in their metadata.
        output: file to write.

    Raises:
        UserError: the checkpoint or the format does not serve, or a package is missing.
    """
    if file_format not in FORMATS:
        raise UserError(f"Unknown format {file_format!r}: use one of {', '.join(FORMATS)}.")
    if output.is_dir() or not output.parent.is_dir():
        raise UserError(f"--output {output} is not valid: name a file in a folder that exists.")
    header, weights = read_checkpoint_policy(checkpoint)
    if file_format == "torch":
        content = save(weights, {HEADER: header.to_json()})
    else:
        content = _onnx(header, weights)
    partial = output.with_name(f".{output.name}.partial")
    partial.write_bytes(content)
    partial.replace(output)


class _Mode(nn.Module):
    """The policy's mode, which is what an ONNX file computes."""

    def __init__(self, policy: TanhGaussianPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor) -> Tensor:
        return self.policy.deterministic(observations)


def _onnx(header: PolicyHeader, weights: dict[str, Tensor]) -> bytes:
    try:
        import onnxscript  # noqa: F401  (torch's exporter is built on it)
    except ImportError as error:
        raise UserError(
            "Exporting to ONNX needs the packages onnx and onnxscript: pip install 'mnm-rl[onnx]'."
        ) from error
    low, high = (np.array(box, np.float32) for box in (header.action_low, header.action_high))
    policy = TanhGaussianPolicy(
        header.observation_dim,
        low,
        high,
        header.hidden_sizes,
        normalise=NORMALISER_MEAN in weights,
    )
    policy.load_state_dict(weights)
    # It tells of packages that are not there and not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        program = torch.onnx.export(
            _Mode(policy).eval(),
            (torch.zeros(2, header.observation_dim),),
            input_names=["observations"],
            output_names=["actions"],
            dynamic_shapes={"observations": {0: "batch"}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = HEADER, header.to_json()
    return model.SerializeToString()
