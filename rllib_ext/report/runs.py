"""The runs that a report compares, read from their folders and put into groups."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

import pandas as pd

from distributed.storage import Location
from mnm import Settings
from mnm.settings import ALGORITHMS
from rllib_ext.checkpoint_files import TASK_FILE
from rllib_ext.errors import UserError
from rllib_ext.located import located
from rllib_ext.ray_session import first_line
from rllib_ext.run_folder import (
    PROGRESS_FILE,
    RETURN_COLUMN,
    STEPS_COLUMN,
    SUMMARY_FILE,
    newest_checkpoint,
    read_progress,
)
from rllib_ext.run_plan import RunPlan
from rllib_ext.run_statistics import Curve

# Beside the settings, what makes runs more than seeds of one another.
PLAN_NAMES = (
    "num_env_runners",
    "max_env_runners",
    "num_rollout_workers",
    "max_rollout_workers",
    "offline_data",
    "offline_updates",
)
LEARNER = "learners/default_policy"
PARTS = ("fit", "update", "imagine", "ingest", "publish")  # of a learner's turn
IDLE_COLUMN = "learner_idle_s"
MEASURED = rf"^(bound/|{RETURN_COLUMN}$|{LEARNER}/seconds_|{IDLE_COLUMN}$|time_total_s$)"
LONGEST_LABEL = 60  # letters


@dataclass(frozen=True)
class Run:
    """One run as its folder shows it, finished or not.

    Attributes:
        folder: of the run.
        plan: what it was started with.
        progress: a row an iteration; empty before the first result.
        summary: of a run that ended as planned and has not gone on since; else None.
    """

    folder: Location
    plan: RunPlan
    progress: pd.DataFrame
    summary: dict[str, Any] | None

    @staticmethod
    def load(folder: Location) -> Run:
        """Reads a run's folder and changes nothing in it.

        Raises:
            UserError: it is no run's folder, or a file in it is damaged; one sentence.
        """
        if not folder.is_dir():
            raise UserError(f"There is no run's folder {folder}.")
        if (folder / TASK_FILE).is_file():
            raise UserError(f"{folder} is a checkpoint: name the run's folder, {folder.parent}.")
        plan, progress = RunPlan.load(folder), read_progress(folder)
        wrong = progress.filter(regex=MEASURED).select_dtypes(exclude="number").columns
        if len(wrong):
            file = folder / PROGRESS_FILE
            raise UserError(f"{file} is damaged: not all of its column {wrong[0]} is numbers.")
        if plan.algo not in ALGORITHMS:
            raise UserError(f"{folder} is of an algorithm that is not known here: {plan.algo!r}.")
        summary, file = None, folder / SUMMARY_FILE
        if file.is_file():
            try:
                summary = json.loads(file.read())
                if summary["evaluation_return_mean"] is None:
                    summary["evaluation_return_mean"] = math.nan
                final = (int(summary["env_steps"]), float(summary["evaluation_return_mean"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{file} is damaged: {first_line(error)}.") from error
            if progress.empty or final[0] < progress[STEPS_COLUMN].iloc[-1]:
                summary = None  # of before the run was resumed
        return Run(folder, plan, progress, summary)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting, those of the algorithm's preset too, and what of the plan counts."""
        preset = Settings.preset(self.plan.algo).to_dict()
        plan = {name: getattr(self.plan, name) for name in PLAN_NAMES}
        own = {**plan, **preset, **self.plan.settings}
        return {name: _plain(value) for name, value in own.items() if name != "algo"}

    @cached_property
    def checkpoint(self) -> Location | None:
        """The newest whole checkpoint."""
        return newest_checkpoint(self.folder)

    @property
    def steps(self) -> int:
        """Real environment steps so far."""
        return 0 if self.progress.empty else int(self.progress[STEPS_COLUMN].iloc[-1])

    @property
    def status(self) -> str:
        """How far it came, in words."""
        if self.progress.empty:
            return "no result yet"
        if self.summary is None:
            return f"unfinished: {self.steps} of {self.plan.steps} steps"
        return "finished" if self.steps >= self.plan.steps else "ended at the return to stop at"

    @property
    def final_return(self) -> float:
        """Mean return of the final evaluation; of the last one where the run is unfinished."""
        if self.summary is not None:
            return float(self.summary["evaluation_return_mean"])
        values = self.curve(RETURN_COLUMN).values
        return float(values[-1]) if len(values) else math.nan

    def curve(self, column: str) -> Curve:
        """A column of the progress over real steps; without a point where there is none."""
        if column not in self.progress:
            return Curve.of([], [])
        return Curve.of(self.progress[STEPS_COLUMN], self.progress[column])

    def seconds(self) -> dict[str, float]:
        """What the learner's time went into, by the parts of its turns, and "idle"."""
        total = self.progress.sum(numeric_only=True)
        seconds = {part: float(total.get(f"{LEARNER}/seconds_{part}", 0.0)) for part in PARTS}
        idle = self.progress[IDLE_COLUMN].max() if IDLE_COLUMN in self.progress else 0.0
        return {**seconds, "idle": 0.0 if math.isnan(idle) else float(idle)}


@dataclass
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        label: unique in the report's groups of one task.
        env: the task.
        algo: that trained.
        runs: by seed.
        settings: of all of them, see `Run.settings`.
    """

    label: str
    env: str
    algo: str
    runs: list[Run]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> float:
        """Real steps between the points of a curve that all runs share."""
        return float(max(1, *(run.plan.evaluation_interval for run in self.runs)))


def load_runs(folders: Iterable[str | PurePath]) -> list[Run]:
    """The runs in these folders, each once.

    Args:
        folders: paths, or URIs of folders in a bucket.

    Raises:
        UserError: see `Run.load`.
    """
    places = [located(str(folder)) for folder in folders]
    unique = {place.full_name: place for place in places}
    return [Run.load(place) for place in unique.values()]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups of runs that differ in their seed alone, by task and then in the order given.

    What sets groups of one task and algorithm apart stands in their labels.
    """
    groups: dict[str, Group] = {}
    for run in runs:
        key = json.dumps([run.plan.env, run.plan.algo, run.settings], sort_keys=True, default=str)
        empty = Group(run.plan.algo, run.plan.env, run.plan.algo, [], run.settings)
        groups.setdefault(key, empty).runs.append(run)
    tasks = list(dict.fromkeys(run.plan.env for run in runs))
    ordered = sorted(groups.values(), key=lambda group: tasks.index(group.env))
    for group in ordered:
        group.runs.sort(key=lambda run: run.plan.seed)
        same = [g for g in ordered if (g.env, g.algo) == (group.env, group.algo)]
        if len(same) > 1:
            names = differing_settings(same)
            words = ", ".join(f"{name}={group.settings.get(name)}" for name in names)
            number = f"variant {same.index(group) + 1}"
            words = words if len(words) <= LONGEST_LABEL else number
            group.label = f"{group.algo} ({words})"
    return ordered


def differing_settings(groups: Sequence[Group]) -> list[str]:
    """Names of the settings that are not the same in all groups."""
    names = dict.fromkeys(name for group in groups for name in group.settings)
    return [
        name
        for name in names
        if any(group.settings.get(name) != groups[0].settings.get(name) for group in groups)
    ]


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that what was read equals what is built in.

    Of equal numbers, 20 and 20.0, there is one: they would be equal and yet other text.
    """
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
