"""A run's folder: its summary, its learning curve and its checkpoint."""

from __future__ import annotations

import io
import json
import math
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from distributed.offline_data import LOG_FOLDER
from distributed.storage import Location
from rllib_ext.bound_view import BoundView
from rllib_ext.checkpoint_files import checkpoint_fault, read_task_file
from rllib_ext.errors import UserError
from rllib_ext.plain_values import figures_as_json
from rllib_ext.ray_session import first_line

SUMMARY_FILE = "summary.json"
CURVE_FILE = "learning_curve.png"
BOUND_FILE = "bound.png"
CHECKPOINT_FOLDER = "checkpoint"
PROGRESS_FILE, RESULT_FILE = "progress.csv", "result.json"  # of Tune: a row, a line an iteration
CHECKPOINTS = "checkpoint_*"  # of Tune
TUNE_STATE = ("experiment_state-*", "basic-variant-state-*", "error.*")
ITERATION_COLUMN = "training_iteration"
STEPS_COLUMN = "num_env_steps_sampled_lifetime"
RETURN_COLUMN = "evaluation/env_runners/episode_return_mean"
TRAINING_RETURN_COLUMN = "env_runners/episode_return_mean"


def refuse_used_folder(folder: Location) -> None:
    """Refuses an output folder that already holds something.

    Raises:
        UserError: it is a file, not empty, or cannot be made.
    """
    if not folder.is_local and "/" not in folder.path:
        raise UserError(f"The output {folder} is a whole bucket: name a folder in it.")
    if folder.is_file():
        raise UserError(f"The output folder {folder} is a file: name another --output.")
    if folder.is_dir() and folder.names():
        raise UserError(f"The output folder {folder} already holds a run: name another --output.")
    if not folder.is_local:
        return
    parent = next(path for path in Path(folder.path).parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"The output folder {folder} cannot be made: {parent} is not writable.")


def keep_checkpoint(folder: Location, newest: Location) -> Location:
    """Puts the newest checkpoint at `checkpoint/`, as hard links where the disk allows it."""
    target = folder / CHECKPOINT_FOLDER
    if not folder.is_local:  # there a folder is whole once it has its task.json
        target.remove()
        newest.copy(target)
        return target
    partial = folder / f".{CHECKPOINT_FOLDER}.partial"
    partial.remove()
    newest.copy(partial)
    target.remove()
    partial.move(target)
    return target


def task_of(checkpoint: Location | Path) -> dict[str, Any]:
    """What the `task.json` of a whole checkpoint says."""
    checkpoint = Location.of(checkpoint)
    return read_task_file(checkpoint.filesystem, checkpoint.path)


def newest_checkpoint(folder: Location) -> Location | None:
    """The whole checkpoint of the latest iteration in a run's folder; None if there is none."""
    whole = [
        (task_of(path)["training_iteration"], path.last, path)
        for path in (folder / CHECKPOINT_FOLDER, *_matching(folder, CHECKPOINTS))
        if is_whole_checkpoint(path)
    ]
    return max(whole)[2] if whole else None


def prepare_resume(folder: Location) -> Location:
    """Makes a run's folder ready to go on, and returns the checkpoint to go on from.

    That is put at `checkpoint/`. All others go, half-written ones too: Tune will number its own
    from 0 again. The curves so far are set aside until `join_curves`.

    Raises:
        UserError: there is no whole checkpoint.
    """
    newest = newest_checkpoint(folder)
    if newest is None:
        raise UserError(
            f"{folder} holds no whole checkpoint to go on from: start anew with another --output."
        )
    kept = folder / CHECKPOINT_FOLDER
    if newest != kept:
        kept.remove()
        newest.move(kept)
    for pattern in (CHECKPOINTS, *TUNE_STATE):
        for path in _matching(folder, pattern):
            path.remove()
    part = len(_parts(folder, PROGRESS_FILE))
    for name in (PROGRESS_FILE, RESULT_FILE):
        if (folder / name).is_file():
            (folder / name).move(folder / _part_name(name, part))
    return kept


def _matching(folder: Location, pattern: str) -> list[Location]:
    return [folder / name for name in folder.names() if fnmatch(name, pattern)]


def join_curves(folder: Location) -> None:
    """Puts `progress.csv` and `result.json` of a resumed run together, once it has ended.

    Iterations that were made again after a checkpoint count once, as made last.
    """
    progress = read_progress(folder)
    if progress.empty:
        return
    (folder / PROGRESS_FILE).write(progress.to_csv(index=False).encode())
    lines = []
    for file in (*_parts(folder, RESULT_FILE), folder / RESULT_FILE):
        lines += _whole_lines(file).splitlines()
    iterations = pd.Series([json.loads(line)[ITERATION_COLUMN] for line in lines])
    kept = [f"{line}\n" for line, final in zip(lines, _final(iterations), strict=True) if final]
    (folder / RESULT_FILE).write("".join(kept).encode())
    for name in (PROGRESS_FILE, RESULT_FILE):
        for file in _parts(folder, name):
            file.remove()


def read_progress(folder: Location) -> pd.DataFrame:
    """The rows of a run's `progress.csv`, one an iteration, whether or not it goes on.

    Iterations that were made again after a checkpoint count once, as made last.

    Returns:
        Empty where there is no result yet.

    Raises:
        UserError: a file cannot be read.
    """
    tables = []
    for file in (*_parts(folder, PROGRESS_FILE), folder / PROGRESS_FILE):
        try:
            text = _whole_lines(file)
            if text:
                table = pd.read_csv(io.StringIO(text))
                tables.append(table.astype({ITERATION_COLUMN: int, STEPS_COLUMN: float}))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{file} is damaged: {first_line(error)}.") from error
    if not tables:
        return pd.DataFrame(columns=[ITERATION_COLUMN, STEPS_COLUMN])
    progress = pd.concat(tables, ignore_index=True)
    return progress[_final(progress[ITERATION_COLUMN])]


def evaluated_returns(folder: Location) -> dict[int, float]:
    """The mean evaluation return of each iteration of a run that had an evaluation.

    Raises:
        UserError: a file cannot be read.
    """
    progress = read_progress(folder)
    if RETURN_COLUMN not in progress:
        return {}
    returns = progress.set_index(ITERATION_COLUMN)[RETURN_COLUMN].dropna()
    return {int(iteration): float(value) for iteration, value in returns.items()}


def _whole_lines(file: Location) -> str:
    """A file's text without its last line where that is torn, as a killed run leaves it."""
    text = file.read().decode() if file.is_file() else ""
    return text[: text.rfind("\n") + 1]


def _final(iterations: pd.Series) -> pd.Series:
    """Which rows no later one goes back behind."""
    later = iterations[::-1].cummin()[::-1].shift(-1).fillna(math.inf)
    return iterations < later


def _parts(folder: Location, name: str) -> list[Location]:
    """The files of earlier parts of a run, in their order."""
    parts: list[Location] = []
    while (folder / _part_name(name, len(parts))).is_file():
        parts.append(folder / _part_name(name, len(parts)))
    return parts


def _part_name(name: str, part: int) -> str:
    stem, _, suffix = name.partition(".")
    return f"{stem}.part-{part}.{suffix}"


def is_whole_checkpoint(folder: Location | Path) -> bool:
    """Whether a folder is a checkpoint of which nothing is missing; see `checkpoint_fault`.

    Tune copies checkpoints file by file to their final names and deletes old ones so: a folder that
    a killed run left may be either half there or half gone.
    """
    folder = Location.of(folder)
    return folder.is_dir() and checkpoint_fault(folder.filesystem, folder.path) is None


def remove_if_nothing_came(folder: Location) -> bool:
    """Removes a run's folder that has neither a result nor logged transitions; whether it did."""
    if any((folder / name).exists() for name in (CHECKPOINT_FOLDER, PROGRESS_FILE, LOG_FOLDER)):
        return False
    folder.remove()
    return True


def write_summary(folder: Location, summary: dict[str, Any]) -> None:
    """Writes `summary.json`; what could not be measured or diverged becomes null."""
    (folder / SUMMARY_FILE).write(f"{figures_as_json(summary, indent=2)}\n".encode())


def draw_learning_curve(folder: Location, title: str) -> None:
    """Draws evaluation and training returns over real steps from `progress.csv`."""
    progress = _progress(folder)
    figure = matplotlib.figure.Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for column, label, color, marker in (
        (TRAINING_RETURN_COLUMN, "training episodes", "#9aa5b1", ""),
        (RETURN_COLUMN, "evaluation", "#1f5fa8", "o"),
    ):
        if column in progress:  # an iteration in which no episode ended has no training return
            rows = progress[[STEPS_COLUMN, column]].dropna()
            axes.plot(*rows.to_numpy().T, label=label, color=color, marker=marker)
    axes.set(xlabel="real environment steps", ylabel="episode return", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, folder / CURVE_FILE)


def draw_bound(folder: Location, title: str) -> bool:
    """Draws the estimate of the bound and the log return from `progress.csv`, with intervals.

    Estimates that are far off are not shown, and the picture says so; see `BoundView`.

    Returns:
        Whether there was anything to draw.
    """
    progress = _progress(folder)
    if "bound/estimate" not in progress or progress["bound/estimate"].isna().all():
        return False
    rows = progress.dropna(subset=["bound/estimate"])
    figure = matplotlib.figure.Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    view = BoundView.of(
        rows[["bound/log_return", "bound/log_return_low", "bound/log_return_high"]],
        rows["bound/estimate"],
        rows[["bound/estimate_low", "bound/estimate_high"]],
    )
    for name, label, color in (
        ("log_return", "log return (real episodes)", "#1f5fa8"),
        ("estimate", "estimate of the bound (model)", "#c8551b"),
    ):
        steps = rows[STEPS_COLUMN]
        mean, low, high = (view.within(rows[f"bound/{name}{end}"]) for end in ("", "_low", "_high"))
        axes.plot(steps, mean, label=label, color=color, marker="o", markersize=4)
        axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel="real environment steps", ylabel="nats", title=title)
    view.apply(axes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, folder / BOUND_FILE)
    return True


def _progress(folder: Location) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO((folder / PROGRESS_FILE).read()))


def _save(figure: matplotlib.figure.Figure, file: Location) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    file.write(picture.getvalue())
