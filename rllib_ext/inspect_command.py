"""`mnm inspect`: how far a checkpoint's model can be trusted, as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mnm.normaliser import SMALLEST_SCALE
from rllib_ext.errors import UserError
from rllib_ext.inspection import LEVELS, Inspection, inspect_checkpoint, known_mean
from rllib_ext.inspection_figures import draw

FILE_WIDTH = 110  # of the tables where there is no terminal
DIMENSIONS_SHOWN = 12
SHOWN_LEVELS = (0.5, 0.9, 0.99)
OFF = 0.05  # of a 90% interval's coverage, from which on it is called wrong


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="A run's checkpoint folder.")],
    data: Annotated[
        list[str],
        typer.Option(
            help="Real transitions: a run's folder, a Parquet file, a folder or URI of them, or "
            "minari:ID; may be given again. Best of episodes that the model was not trained on."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the pictures; default: none are drawn.")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Steps that are predicted ahead.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the rows and draws.")] = 0,
) -> None:
    """Judge a checkpoint's dynamics model and classifier by real transitions.

    No pickle is read, of the checkpoint only task.json and agent.pt.
    """
    if horizon < 1:
        raise UserError(f"--horizon {horizon} is not valid: use 1 or more.")
    if seed < 0:
        raise UserError(f"--seed {seed} is not valid: use 0 or more.")
    if output is not None and output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder.")
    inspection = inspect_checkpoint(checkpoint, data, horizon, seed)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH, highlight=False)
    show(inspection, console)
    if output is not None:
        for file in draw(inspection, output):
            console.print(f"Written to {file}", soft_wrap=True)


def show(inspection: Inspection, console: Console) -> None:
    """Prints the tables, each with a sentence that says how to read it."""
    model = inspection.model
    for warning in inspection.warnings:
        console.print(warning)
    console.print(
        f"Model of {model.algo} on {model.env} after {model.env_steps:,} real steps, judged by "
        f"{inspection.rows:,} transitions of {inspection.episodes:,} episodes"
    )
    console.print(_horizon_table(inspection))
    console.print(_dimension_table(inspection))
    console.print(calibration_sentence(inspection))
    if inspection.classifier is None:
        console.print(f"{model.algo} has no classifier.")
    else:
        console.print(_classifier_table(inspection))
        console.print(
            f"Accuracy {inspection.accuracy:.1%}, expected calibration error "
            f"{inspection.classifier.error:.3f}: at 50% it cannot tell the model from the real "
            "task, near 100% its reward no longer tells bad from worse."
        )
    console.print(_worst_table(inspection))


def calibration_sentence(inspection: Inspection) -> str:
    """What the coverage of the 90 % intervals says of the predicted variance."""
    if not inspection.moving.any():
        return "No dimension moves: nothing can be said of the predicted variance."
    covered = inspection.covered[list(LEVELS).index(0.9), inspection.moving].mean()
    if covered < 0.9 - OFF:
        verdict = "the model is too sure of itself"
    elif covered > 0.9 + OFF:
        verdict = "the model is less sure of itself than it might be"
    else:
        verdict = "the predicted variance is about right"
    return f"Predicted 90% intervals hold {covered:.1%} of the values that move: {verdict}."


def _horizon_table(inspection: Inspection) -> Group:
    judged = inspection.open_loop
    table = _table(
        "steps ahead", "starts", "error", "predicted deviation", "'nothing moves'", "worst"
    )
    errors = judged.rmse / inspection.scale
    spreads, moves = judged.spread / inspection.scale, judged.unmoved / inspection.scale
    last = len(judged.starts)
    for step in sorted({step for step in (1, 2, 3, 5, 10, 20, 50, 100) if step < last} | {last}):
        row = step - 1
        worst = _farthest(errors[row])
        table.add_row(
            str(step),
            f"{judged.starts[row]:,}",
            *(_number(float(known_mean(values[row]))) for values in (errors, spreads, moves)),
            f"{_number(errors[row, worst])} (dimension {worst})",
        )
    units = f"standard deviations of the data, {SMALLEST_SCALE:g} at the least"
    return _titled(f"Prediction along logged actions, in {units}", table)


def _dimension_table(inspection: Inspection) -> Group:
    judged = inspection.open_loop
    last = len(judged.starts)
    levels = [list(LEVELS).index(level) for level in SHOWN_LEVELS]
    errors = (judged.rmse / inspection.scale)[-1]
    shown = np.argsort(-np.nan_to_num(errors, posinf=np.finfo(float).max), kind="stable")
    shown = np.sort(shown[:DIMENSIONS_SHOWN])
    left_out = len(errors) - len(shown)
    title = "Errors in the observation's units, and how many values lie in the predicted intervals"
    if left_out:
        title += f" (the worst {len(shown)} of {len(errors)} dimensions)"
    table = _table(
        "dimension",
        "data's deviation",
        "error 1 ahead",
        f"{last} ahead",
        *(f"in {level:.0%}" for level in SHOWN_LEVELS),
    )
    for dimension in shown:
        table.add_row(
            str(dimension),
            _number(inspection.deviation[dimension]),
            _number(judged.rmse[0, dimension]),
            _number(judged.rmse[-1, dimension]),
            *(f"{inspection.covered[level, dimension]:.1%}" for level in levels),
        )
    return _titled(title, table)


def _classifier_table(inspection: Inspection) -> Group:
    judged = inspection.classifier
    assert judged is not None
    table = _table("probability of 'real'", "rows", "mean", "really real")
    edges = np.linspace(0, 1, len(judged.counts) + 1)
    for index in np.flatnonzero(judged.counts):
        table.add_row(
            f"{edges[index]:.1f} to {edges[index + 1]:.1f}",
            f"{judged.counts[index]:,}",
            f"{judged.predicted[index]:.1%}",
            f"{judged.observed[index]:.1%}",
        )
    return _titled(
        "Classifier, on real transitions and the model's own from the same states and actions",
        table,
    )


def _worst_table(inspection: Inspection) -> Group:
    sources = {_shown(worst.source) for worst in inspection.worst}
    several = len(sources) > 1
    last = ("of",) if several else ()
    table = _table("episode", "step", "nats per dimension", "farthest off", *last)
    for worst in inspection.worst:
        table.add_row(
            str(worst.episode),
            str(worst.step),
            _number(worst.nll),
            f"dimension {worst.dimension}, {worst.deviations:+.1f} deviations",
            *((_shown(worst.source),) if several else ()),
        )
    median = np.median(inspection.one_step.nll)
    origin = "" if several else f", of {sources.pop()}"
    return _titled(
        f"Transitions that the model thinks most unlikely{origin}; half of all: below {median:.2f}",
        table,
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _titled(title: str, table: Table) -> Group:
    """Rich's own title would be as narrow as the table."""
    return Group(Text(title, style="bold"), table)


def _shown(source: str) -> str:
    """A folder's path as from here, where it lies below."""
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else source


def _farthest(errors: np.ndarray) -> int:
    """The dimension of the largest error; constant ones have none."""
    return int(np.argmax(np.nan_to_num(errors, nan=-1.0, posinf=np.finfo(float).max)))


def _number(value: float) -> str:
    return f"{value:.3g}"
