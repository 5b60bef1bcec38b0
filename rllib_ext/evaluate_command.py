"""`mnm evaluate`: plays episodes with a saved policy and prints JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_ext.errors import UserError
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.located import located
from rllib_ext.plain_values import figures_as_json


def evaluate(
    policy: Annotated[
        str,
        typer.Argument(
            help="A run's checkpoint folder, or a file that mnm export wrote; a path or a URI."
        ),
    ],
    episodes: Annotated[int, typer.Option(help="Episodes to play.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the environment.")] = 0,
    env: Annotated[
        str | None, typer.Option(help="Another environment id; default: the policy's own.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Film of the first episode, .mp4 or .gif.")
    ] = None,
) -> None:
    """Evaluate a saved policy without exploration; prints the returns as JSON.

    No pickle is read, of a checkpoint only task.json and agent.pt.
    """
    if episodes < 1:
        raise UserError(f"--episodes {episodes} is not valid: use 1 or more.")
    if seed < 0:
        raise UserError(f"--seed {seed} is not valid: use 0 or more.")
    evaluation = evaluate_policy(located(policy), episodes, seed, env, video)
    typer.echo(figures_as_json(evaluation.to_dict()))
