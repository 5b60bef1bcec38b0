"""The results as CSV tables, one row an evaluation, read from the runs' folders."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.learning.runs import Run
from rllib_ext.run_folder import RESULT_FILE

VERSION_FILE = "version.txt"  # of a run: the code that began it, or went on with it last
TABLES = Path(__file__).parent.parent / "results" / "learning"
KEY = ["env", "algo", "variant", "seed"]
# Column of the table: where it stands in a line of Tune's result.json.
FIGURES = {
    "env_steps": "num_env_steps_sampled_lifetime",
    "return_mean": "evaluation/env_runners/episode_return_mean",
    "updates": "num_updates_lifetime",
    "wall_seconds": "time_total_s",
    "q_value": "learners/default_policy/q_value",
    "model_holdout_nll": "learners/default_policy/model_holdout_nll",
    "classifier_accuracy": "learners/default_policy/classifier_accuracy",
    "bound_estimate": "bound/estimate",
    "bound_log_return": "bound/log_return",
    "model_optimism": "bound/model_optimism",
}
COLUMNS = ["experiment", *KEY, *FIGURES, "version", "settings"]
WHOLE_NUMBERS = ("env_steps", "updates")
DIGITS = 6  # of every other figure


def version() -> str:
    """The package's version and, in a checkout, its commit; "+" where files differ from it."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return f"{metadata.version('mnm-rl')}-{commit}"


def rows_of(run: Run, root: Path) -> pd.DataFrame:
    """The evaluations that a run's folder holds so far, without those that were made again."""
    file = run.folder(root) / RESULT_FILE
    text = file.read_text() if file.is_file() else ""
    rows = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        result = json.loads(line)
        figures = {column: _figure(result, path) for column, path in FIGURES.items()}
        if not pd.isna(figures["return_mean"]):  # a stopped run ends without an evaluation
            rows.append(figures)
    table = pd.DataFrame(rows, columns=list(FIGURES)).astype(float)
    for column in FIGURES:
        if column in WHOLE_NUMBERS:
            table[column] = table[column].astype("Int64")
        else:
            table[column] = table[column].map(lambda value: float(f"{value:.{DIGITS}g}"))
    table = table.drop_duplicates("env_steps", keep="last")
    plan = run.plan
    own = (run.experiment, plan.env, plan.algo, run.variant, plan.seed)
    for place, (column, value) in enumerate(zip(["experiment", *KEY], own, strict=True)):
        table.insert(place, column, value)
    file = run.folder(root) / VERSION_FILE
    made_with = file.read_text() if file.is_file() else version()
    return table.assign(version=made_with, settings=run.digest)


def update(run: Run, root: Path, tables: Path = TABLES) -> Path:
    """Puts a run's evaluations into its experiment's table in place of those it had there.

    Several processes may do so at once.
    """
    file = tables / f"{run.experiment}.csv"
    table = rows_of(run, root)
    tables.mkdir(parents=True, exist_ok=True)
    with _held(tables):
        if file.is_file():
            old, own = pd.read_csv(file), run.plan
            is_own = (old[KEY] == [own.env, own.algo, run.variant, own.seed]).all(axis=1)
            table = pd.concat([old[~is_own], table], ignore_index=True)
        table = table.sort_values([*KEY, "env_steps"], kind="stable")
        table[COLUMNS].to_csv(file, index=False)
    return file


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Holds a folder against others that hold it, without a file of its own in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _figure(result: dict[str, Any], path: str) -> Any:
    """What a path of names leads to; None where the iteration has none."""
    value: Any = result
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value
