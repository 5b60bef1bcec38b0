"""A run's folder: its summary, its learning curve and its checkpoint."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pyarrow import fs

from distributed.offline_data import LOG_FOLDER
from distributed.storage import write_file
from rllib_ext.checkpoint_files import checkpoint_fault, read_task_file
from rllib_ext.errors import UserError
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


def refuse_used_folder(folder: Path) -> None:
    """Refuses an output folder that already holds something.

    Raises:
        UserError: it is a file, not empty, or cannot be made.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"The output folder {folder} already holds a run: name another --output.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"The output folder {folder} is a file: name another --output.")
    parent = next(path for path in folder.resolve().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"The output folder {folder} cannot be made: {parent} is not writable.")


def keep_checkpoint(folder: Path, newest: Path) -> Path:
    """Puts the newest checkpoint at `checkpoint/`, as hard links where the disk allows it."""
    target = folder / CHECKPOINT_FOLDER
    partial = folder / f".{CHECKPOINT_FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(newest, partial, copy_function=_link_or_copy)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def task_of(checkpoint: Path) -> dict[str, Any]:
    """What the `task.json` of a whole checkpoint says."""
    return read_task_file(fs.LocalFileSystem(), checkpoint.as_posix())


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the latest iteration in a run's folder; None if there is none."""
    whole = [
        (task_of(path)["training_iteration"], path)
        for path in (folder / CHECKPOINT_FOLDER, *folder.glob(CHECKPOINTS))
        if is_whole_checkpoint(path)
    ]
    return max(whole)[1] if whole else None


def prepare_resume(folder: Path) -> Path:
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
        shutil.rmtree(kept, ignore_errors=True)
        newest.rename(kept)
    for path in folder.glob(CHECKPOINTS):
        shutil.rmtree(path)
    for pattern in TUNE_STATE:
        for path in folder.glob(pattern):
            path.unlink()
    part = len(_parts(folder, PROGRESS_FILE))
    for name in (PROGRESS_FILE, RESULT_FILE):
        if (folder / name).is_file():
            (folder / name).rename(folder / _part_name(name, part))
    return kept


def join_curves(folder: Path) -> None:
    """Puts `progress.csv` and `result.json` of a resumed run together, once it has ended.

    Iterations that were made again after a checkpoint count once, as made last.
    """
    progress = read_progress(folder)
    if progress.empty:
        return
    _replace(folder / PROGRESS_FILE, progress.to_csv(index=False))
    lines = []
    for file in (*_parts(folder, RESULT_FILE), folder / RESULT_FILE):
        lines += _whole_lines(file).splitlines()
    iterations = pd.Series([json.loads(line)[ITERATION_COLUMN] for line in lines])
    kept = [f"{line}\n" for line, final in zip(lines, _final(iterations), strict=True) if final]
    _replace(folder / RESULT_FILE, "".join(kept))
    for name in (PROGRESS_FILE, RESULT_FILE):
        for file in _parts(folder, name):
            file.unlink()


def read_progress(folder: Path) -> pd.DataFrame:
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


def _whole_lines(file: Path) -> str:
    """A file's text without its last line where that is torn, as a killed run leaves it."""
    text = file.read_text() if file.is_file() else ""
    return text[: text.rfind("\n") + 1]


def _final(iterations: pd.Series) -> pd.Series:
    """Which rows no later one goes back behind."""
    later = iterations[::-1].cummin()[::-1].shift(-1).fillna(math.inf)
    return iterations < later


def _parts(folder: Path, name: str) -> list[Path]:
    """The files of earlier parts of a run, in their order."""
    parts: list[Path] = []
    while (folder / _part_name(name, len(parts))).is_file():
        parts.append(folder / _part_name(name, len(parts)))
    return parts


def _part_name(name: str, part: int) -> str:
    stem, _, suffix = name.partition(".")
    return f"{stem}.part-{part}.{suffix}"


def _replace(file: Path, content: str) -> None:
    write_file(fs.LocalFileSystem(), file.as_posix(), content.encode())


def is_whole_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of which nothing is missing; see `checkpoint_fault`.

    Tune copies checkpoints file by file to their final names and deletes old ones so: a folder that
    a killed run left may be either half there or half gone.
    """
    local = fs.LocalFileSystem()
    return folder.is_dir() and checkpoint_fault(local, folder.resolve().as_posix()) is None


def remove_if_nothing_came(folder: Path) -> bool:
    """Removes a run's folder that has neither a result nor logged transitions; whether it did."""
    if any((folder / name).exists() for name in (CHECKPOINT_FOLDER, PROGRESS_FILE, LOG_FOLDER)):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json`; what could not be measured, NaN, becomes null."""
    plain = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in summary.items()
    }
    (folder / SUMMARY_FILE).write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def draw_learning_curve(folder: Path, title: str) -> None:
    """Draws evaluation and training returns over real steps from `progress.csv`."""
    progress = pd.read_csv(folder / PROGRESS_FILE)
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
    figure.savefig(folder / CURVE_FILE, dpi=150)


def draw_bound(folder: Path, title: str) -> bool:
    """Draws the estimate of the bound and the log return from `progress.csv`, with intervals.

    Returns:
        Whether there was anything to draw.
    """
    progress = pd.read_csv(folder / PROGRESS_FILE)
    if "bound/estimate" not in progress or progress["bound/estimate"].isna().all():
        return False
    rows = progress.dropna(subset=["bound/estimate"])
    figure = matplotlib.figure.Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, color in (
        ("log_return", "log return (real episodes)", "#1f5fa8"),
        ("estimate", "estimate of the bound (model)", "#c8551b"),
    ):
        steps, low, high = rows[STEPS_COLUMN], rows[f"bound/{name}_low"], rows[f"bound/{name}_high"]
        axes.plot(steps, rows[f"bound/{name}"], label=label, color=color, marker="o", markersize=4)
        axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set(xlabel="real environment steps", ylabel="nats", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(folder / BOUND_FILE, dpi=150)
    return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
