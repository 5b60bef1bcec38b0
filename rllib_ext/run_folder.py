"""A run's folder: its summary, its learning curve and its checkpoint."""

from __future__ import annotations

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

from rllib_ext.checkpoint_files import checkpoint_fault
from rllib_ext.errors import UserError

SUMMARY_FILE = "summary.json"
CURVE_FILE = "learning_curve.png"
BOUND_FILE = "bound.png"
CHECKPOINT_FOLDER = "checkpoint"
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


def is_whole_checkpoint(folder: Path) -> bool:
    """Whether a folder is a checkpoint of which nothing is missing; see `checkpoint_fault`.

    Tune copies checkpoints file by file to their final names and deletes old ones so: a folder that
    a killed run left may be either half there or half gone.
    """
    local = fs.LocalFileSystem()
    return folder.is_dir() and checkpoint_fault(local, folder.resolve().as_posix()) is None


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json`; what could not be measured, NaN, becomes null."""
    plain = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in summary.items()
    }
    (folder / SUMMARY_FILE).write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def draw_learning_curve(folder: Path, title: str) -> None:
    """Draws evaluation and training returns over real steps from `progress.csv`."""
    progress = pd.read_csv(folder / "progress.csv")
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
    progress = pd.read_csv(folder / "progress.csv")
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
