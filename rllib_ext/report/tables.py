"""The report's numbers as tables, for the page, for CSV files and for what builds on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from distributed.storage import Location
from rllib_ext.report.model_check import ModelCheck
from rllib_ext.report.runs import Group
from rllib_ext.run_folder import RETURN_COLUMN
from rllib_ext.run_statistics import (
    Curve,
    aggregate,
    bootstrap_interval,
    interquartile_mean,
    steps_to_threshold,
)


def run_table(groups: Sequence[Group], threshold: float | None = None) -> pd.DataFrame:
    """A row a run.

    Args:
        groups: of runs.
        threshold: evaluation return whose first steps are wanted; None: the return to stop at of
            the group's first run that has one.

    Returns:
        Columns `env`, `group`, `algo`, `seed`, `status`, `steps`, `final_return`, `threshold`,
        `steps_to_threshold` (NaN: not reached or none given), `seconds`, `folder`.
    """
    rows = []
    for group in groups:
        given = (threshold, *(run.plan.stop_return for run in group.runs))
        wanted = next((value for value in given if value is not None), None)
        for run in group.runs:
            reached = math.nan
            if wanted is not None:
                reached = steps_to_threshold(run.curve(RETURN_COLUMN), wanted)
            rows.append(
                {
                    "env": group.env,
                    "group": group.label,
                    "algo": group.algo,
                    "seed": run.plan.seed,
                    "status": run.status,
                    "steps": run.steps,
                    "final_return": run.final_return,
                    "threshold": math.nan if wanted is None else wanted,
                    "steps_to_threshold": reached,
                    "seconds": _last(run.progress, "time_total_s"),
                    "folder": str(run.folder),
                }
            )
    return pd.DataFrame(rows)


def group_table(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a group: interquartile mean of the final returns and its interval.

    Args:
        runs: of `run_table`.

    Returns:
        Columns `env`, `group`, `algo`, `runs`, `steps` (fewest, most), `final_return_iqm`, `_low`,
        `_high`, `reached` (runs that came to their threshold), `steps_to_threshold_median` (inf
        unless more than half of them did).
    """
    rows = []
    for (env, label), own in runs.groupby(["env", "group"], sort=False):
        final = own["final_return"].dropna().to_numpy()
        low, high = bootstrap_interval(final) if len(final) else (math.nan, math.nan)
        reached = own["steps_to_threshold"]
        asked = own["threshold"].notna().any()
        rows.append(
            {
                "env": env,
                "group": label,
                "algo": own["algo"].iloc[0],
                "runs": len(own),
                "steps_fewest": own["steps"].min(),
                "steps_most": own["steps"].max(),
                "final_return_iqm": float(interquartile_mean(final)) if len(final) else math.nan,
                "final_return_low": float(low),
                "final_return_high": float(high),
                "threshold": own["threshold"].iloc[0],
                "reached": int(reached.notna().sum()) if asked else math.nan,
                "steps_to_threshold_median": (
                    float(np.median(reached.fillna(math.inf))) if asked else math.nan
                ),
            }
        )
    return pd.DataFrame(rows)


def learning_curves(
    groups: Sequence[Group], column: str = RETURN_COLUMN
) -> dict[str, pd.DataFrame]:
    """Interquartile mean of a column of the progress over real steps, by the group's label.

    Args:
        groups: of one task.
        column: of `progress.csv`.

    Returns:
        Tables of `rllib_ext.run_statistics.aggregate`, empty where no run has a value.
    """
    return {
        group.label: aggregate([run.curve(column) for run in group.runs], group.interval)
        for group in groups
    }


def bound_curves(group: Group) -> dict[str, pd.DataFrame] | None:
    """Estimate of the bound and log return of a group; None where there is none.

    With one run the interval is the estimate's own, over trajectories; with more it is the one
    over seeds.
    """
    tables = {}
    for name in ("estimate", "log_return"):
        tables[name] = learning_curves([group], f"bound/{name}")[group.label]
        if tables[name].empty:
            return None
        if len(group.runs) == 1:
            for end in ("low", "high"):
                own = learning_curves([group], f"bound/{name}_{end}")[group.label]
                tables[name][end] = own["iqm"]
    return tables


def error_curves(
    groups: Sequence[Group],
    checks: Mapping[Location, ModelCheck],
    of: Literal["error", "unchanged"] = "error",
) -> dict[str, pd.DataFrame]:
    """Error of the models by horizon, as interquartile means over the group's checked runs.

    Args:
        groups: of one task.
        checks: of the models, by the run's folder.
        of: the model, or predicting that nothing changes.

    Returns:
        By the group's label, groups without a check left out; `steps` is the horizon.
    """
    tables = {}
    for group in groups:
        errors = [getattr(checks[run.folder], of) for run in group.runs if run.folder in checks]
        curves = [Curve.of(np.arange(1, len(error) + 1), error) for error in errors]
        if curves:
            tables[group.label] = aggregate(curves, 1.0)
    return tables


def time_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Seconds of the learner by what they went into, a row a run that has a result."""
    return pd.DataFrame(
        {"env": group.env, "group": group.label, "seed": run.plan.seed, **run.seconds()}
        for group in groups
        for run in group.runs
        if not run.progress.empty
    )


def write_tables(
    folder: Path,
    groups: Sequence[Group],
    threshold: float | None,
    errors: Mapping[str, Mapping[str, pd.DataFrame]],
) -> list[str]:
    """Writes the report's numbers as CSV: runs, groups, curves, and model errors if there are any.

    Args:
        folder: is made if it is missing.
        groups: of all tasks.
        threshold: see `run_table`.
        errors: of `error_curves`, by task.

    Returns:
        The files' names.
    """
    runs = run_table(groups, threshold)
    curves = []
    for group in groups:
        for name, table in (
            ("return", learning_curves([group])[group.label]),
            *((bound_curves(group) or {}).items()),
        ):
            curves.append(table.assign(env=group.env, group=group.label, quantity=name))
    model = [
        table.rename(columns={"steps": "horizon"}).assign(env=env, group=label)
        for env, tables in errors.items()
        for label, table in tables.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    written = {"runs.csv": runs, "groups.csv": group_table(runs), "curves.csv": pd.concat(curves)}
    if model:
        written["model_error.csv"] = pd.concat(model)
    for name, table in written.items():
        first = [column for column in ("env", "group", "quantity") if column in table]
        rest = [column for column in table if column not in first]
        table[first + rest].to_csv(folder / name, index=False, float_format="%.6g")
    return list(written)


def _last(progress: pd.DataFrame, column: str) -> float:
    if column not in progress or progress[column].isna().all():
        return math.nan
    return float(progress[column].dropna().iloc[-1])
