"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from distributed.storage import Location
from rllib_ext.report.command import train_command
from rllib_ext.report.figures import (
    PARTS,
    Picture,
    draw_bound,
    draw_learning_curves,
    draw_model_error,
    draw_paths,
    draw_time,
)
from rllib_ext.report.model_check import ModelCheck
from rllib_ext.report.runs import PLAN_NAMES, Group, differing_settings
from rllib_ext.report.tables import (
    bound_curves,
    error_curves,
    group_table,
    learning_curves,
    run_table,
    time_table,
)

TEMPLATE = "report.html"
HORIZONS = (1, 5, 10, 25)  # of the table of model errors, where episodes are as long


@dataclass(frozen=True)
class Task:
    """What the page shows of the runs of one task.

    Attributes:
        env: the task.
        curves: learning curves; None where no run has an evaluation.
        bounds: bound and log return, a picture a group.
        error: error of the models by horizon; None where no model was checked.
        horizons: of the table of errors.
        error_rows: the group, and its errors at these as text.
        paths: real and imagined trajectories, a picture a group.
    """

    env: str
    curves: Picture | None
    bounds: list[Picture] = field(default_factory=list)
    error: Picture | None = None
    horizons: list[int] = field(default_factory=list)
    error_rows: list[tuple[str, list[str]]] = field(default_factory=list)
    paths: list[Picture] = field(default_factory=list)


def render_page(
    groups: Sequence[Group],
    checks: Mapping[Location, ModelCheck],
    notes: Sequence[str],
    threshold: float | None = None,
) -> str:
    """The page.

    Args:
        groups: of all tasks.
        checks: of the models, by the run's folder.
        notes: why runs were not checked.
        threshold: see `rllib_ext.report.tables.run_table`.
    """
    runs = run_table(groups, threshold)
    times = time_table(groups)
    environment = Environment(
        loader=PackageLoader("rllib_ext.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    every = [run for group in groups for run in group.runs]
    labels = [
        _name(f"{row['group']}, seed {row['seed']}", row["env"], groups)
        for row in times.to_dict("records")
    ]
    time_picture = draw_time(labels, times[list(PARTS)]) if len(times) else None
    return environment.get_template(TEMPLATE).render(
        title=_title(groups),
        version=metadata.version("mnm-rl"),
        tasks=[_task(env, own, checks) for env, own in _by_task(groups).items()],
        groups=group_table(runs).to_dict("records"),
        runs=runs.to_dict("records"),
        has_threshold=bool(runs["threshold"].notna().any()),
        notes=notes,
        time_picture=time_picture,
        times=list(zip(labels, times.to_dict("records"), strict=True)),
        parts={name: label for name, (label, _) in PARTS.items()},
        settings=_settings(groups),
        columns=[_name(group.label, group.env, groups) for group in groups],
        commands=[(str(run.folder), train_command(run.plan)) for run in every],
    )


def _task(env: str, groups: Sequence[Group], checks: Mapping[Location, ModelCheck]) -> Task:
    curves = learning_curves(groups)
    measured = any(len(table) for table in curves.values())
    bounds = [(group, bound_curves(group)) for group in groups]
    errors = error_curves(groups, checks)
    checked = [group for group in groups if group.label in errors]
    error, horizons, rows = None, [], []
    if checked:
        unchanged = error_curves(groups, checks, "unchanged")
        error = draw_model_error(groups, errors, unchanged, env)
        longest = max(int(table["steps"].max()) for table in errors.values())
        horizons = sorted({min(horizon, longest) for horizon in HORIZONS})
        for label, table in errors.items():
            at = dict(zip(table["steps"], table["iqm"], strict=True))
            rows.append((label, [_figure(at.get(horizon, math.nan)) for horizon in horizons]))
    first = [
        next(((run, group) for run in group.runs if run.folder in checks), None)
        for group in checked
    ]
    return Task(
        env=env,
        curves=draw_learning_curves(groups, curves, env) if measured else None,
        bounds=[draw_bound(group, tables) for group, tables in bounds if tables is not None],
        error=error,
        horizons=horizons,
        error_rows=rows,
        paths=[
            draw_paths(run, group.label, checks[run.folder])
            for run, group in (pair for pair in first if pair is not None)
        ],
    )


def _settings(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Rows of the settings' table: those that were given anywhere, and those that differ."""
    differing = differing_settings(groups)
    names = dict.fromkeys(
        [
            *PLAN_NAMES,
            *(name for run in _runs(groups) for name in run.plan.settings),
            *differing,
        ]
    )
    return [
        {
            "name": name,
            "differs": name in differing,
            "values": [_setting(group.settings.get(name)) for group in groups],
        }
        for name in names
    ]


def _setting(value: Any) -> str:
    return "none" if value in (None, []) else value if isinstance(value, str) else json.dumps(value)


def _title(groups: Sequence[Group]) -> str:
    algorithms = " and ".join(dict.fromkeys(group.algo for group in groups))
    tasks = ", ".join(_by_task(groups))
    return f"{algorithms} on {tasks}"


def _by_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    tasks: dict[str, list[Group]] = {}
    for group in groups:
        tasks.setdefault(group.env, []).append(group)
    return tasks


def _runs(groups: Sequence[Group]) -> list[Any]:
    return [run for group in groups for run in group.runs]


def _name(label: str, env: str, groups: Sequence[Group]) -> str:
    """A name, with its task where there are several."""
    return f"{label}, {env}" if len(_by_task(groups)) > 1 else label


def _figure(value: float | None, digits: int = 3) -> str:
    """A number to read: three digits, thousands apart; a dash where there is none."""
    if value is None or pd.isna(value):
        return "–"
    if math.isinf(value):
        return "not reached"
    whole = float(value).is_integer()
    decimals = 0 if whole else max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 4)}f}"
