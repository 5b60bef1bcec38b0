"""`mnm export`: writes a checkpoint's policy as safetensors or ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_ext.located import located
from rllib_ext.policy_export import FORMATS, export_policy


def export(
    checkpoint: Annotated[str, typer.Argument(help="A run's checkpoint folder: a path or a URI.")],
    output: Annotated[Path, typer.Option(help="File to write; an old one is replaced.")],
    format_: Annotated[
        str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")
    ] = "torch",
) -> None:
    """Export a checkpoint's policy as one file without pickles.

    "torch" writes the weights as safetensors, "onnx" a graph that gives the policy's mode. The task
    is in the file's metadata, and `mnm evaluate` takes both.
    """
    export_policy(located(checkpoint), format_, output)
    typer.echo(f"Written to {output}.")
