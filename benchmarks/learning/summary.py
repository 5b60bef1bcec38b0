"""What an experiment's table says: seeds that got there, steps it took, returns with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.learning.experiments import AS_TUNED, EXPERIMENTS, SOLVED, Experiment
from benchmarks.learning.runs import Run, runs_of
from benchmarks.learning.tables import COLUMNS
from rllib_ext.run_statistics import (
    Curve,
    aggregate,
    bootstrap_interval,
    interquartile_mean,
    steps_to_threshold,
)
from rllib_ext.tune_run import EVALUATIONS_TO_STOP

# Figures that might tell the return, compared at the same evaluations.
RETURN_PREDICTORS = ("model_holdout_nll", "bound_estimate")
LEAST_POINTS = 6  # evaluations that a rank correlation needs


@dataclass(frozen=True, eq=False)  # arrays have no one answer to whether they are equal
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        env: Gymnasium id.
        algo: of the four.
        variant: name.
        total_steps: real steps of a run that does not end before.
        evaluation_interval: real steps between two evaluations.
        curves: evaluation returns of each run, by seed.
        shared_step: real steps in whole intervals that every run has made; one that ended, also
            because it solved the task, counts as made to the experiment's length.
        finished: whether each run was made to its end.
        reached: real steps at which each run solved the task; NaN: it did not, or no return counts
            as that.
        returns: of each run at its end.
        wall_seconds: of each run.
        table: the rows, with `bound_gap`, the log return less the estimate of its bound.
    """

    env: str
    algo: str
    variant: str
    total_steps: int
    evaluation_interval: int
    curves: dict[int, Curve]
    shared_step: int
    finished: bool
    reached: list[float]
    returns: np.ndarray
    wall_seconds: list[float]
    table: pd.DataFrame

    @property
    def label(self) -> str:
        """The algorithm, and the variant where it is not the task's tuned settings."""
        return self.algo if self.variant == AS_TUNED else f"{self.algo}, {self.variant}"

    def returns_at(self, step: int) -> np.ndarray:
        """Return of each run at its last evaluation of the interval that begins at a real step."""
        return np.array(
            [
                curve.values[curve.steps < step + self.evaluation_interval][-1]
                for curve in self.curves.values()
            ]
        )

    def interval(self, step: int | None = None) -> tuple[float, float, float]:
        """Interquartile mean of the returns at a real step, and the ends of its 95 % interval;
        without one, of those at the end."""
        returns = self.returns if step is None else self.returns_at(step)
        low, high = bootstrap_interval(returns)
        return float(interquartile_mean(returns)), float(low), float(high)

    @property
    def solved(self) -> int:
        """Seeds that solved the task."""
        return sum(not math.isnan(steps) for steps in self.reached)

    def is_behind(self, other: Group) -> bool:
        """Whether the runs tell this group from a better one: 95 % intervals do not overlap."""
        low, high = self._compared_interval()
        other_low, other_high = other._compared_interval()
        return low > other_high if self.env in SOLVED else high < other_low

    def steps_to_solve(self) -> np.ndarray:
        """Real steps in whole intervals until each run solved the task; an interval more than there
        are for one that did not."""
        never = self.total_steps + self.evaluation_interval
        steps = np.array([never if math.isnan(steps) else steps for steps in self.reached])
        return steps // self.evaluation_interval * self.evaluation_interval

    def _compared_interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval of `steps_to_solve`, or of the returns at the end where no
        return counts as solved."""
        values = self.steps_to_solve() if self.env in SOLVED else self.returns
        low, high = bootstrap_interval(values)
        return float(low), float(high)

    @property
    def last_step(self) -> int:
        """Real steps of the longest run."""
        return int(max(curve.steps[-1] for curve in self.curves.values()))

    def mean_curve(self) -> pd.DataFrame:
        """`aggregate` of the steps that all runs have made; a run that stopped because it solved
        the task counts on with its last value."""
        last = self.last_step
        curves = [
            Curve(np.append(curve.steps, last), np.append(curve.values, curve.values[-1]))
            if curve.steps[-1] < last
            else curve
            for curve in self.curves.values()
        ]
        curve = aggregate(curves, self.evaluation_interval)
        return curve[curve["steps"] < self.shared_step + self.evaluation_interval]

    def last_median(self, column: str) -> float:
        """Median over the runs of a figure at their last evaluation that has it."""
        return float(self.table.groupby("seed")[column].last().median())

    def course(self, column: str) -> tuple[float, ...]:
        """Medians over the runs of a figure at each one's first, middle and last evaluation
        that has it; none without one."""
        known = [own.dropna().to_numpy() for _, own in self.table.groupby("seed")[column]]
        places = [own[[0, (len(own) - 1) // 2, -1]] for own in known if len(own)]
        return tuple(np.median(places, axis=0)) if places else ()

    def figure(self, column: str) -> pd.Series:
        """Median of a figure by real steps in whole intervals, over the runs that came so far."""
        table = self.table.assign(
            step=(self.table["env_steps"] // self.evaluation_interval) * self.evaluation_interval
        )
        return table.dropna(subset=[column]).groupby("step")[column].median()

    def correlation(self, column: str) -> tuple[float, int]:
        """Spearman's rank correlation of one of `RETURN_PREDICTORS` with the return, over the
        evaluations that have both: median over the runs, and how many runs that are."""
        found = []
        for _, rows in self.table.groupby("seed"):
            known = rows[[*RETURN_PREDICTORS, "return_mean"]].dropna()[[column, "return_mean"]]
            if len(known) >= LEAST_POINTS and known.nunique().min() > 1:
                found.append(known.corr(method="spearman").iloc[0, 1])
        return (float(np.median(found)) if found else math.nan), len(found)


def groups(name: str, tables: Path) -> list[Group]:
    """The groups of an experiment's table, in its order; none without a table.

    Only runs with the experiment's present settings count: those of earlier ones show nothing of
    what a user gets now. Those of its references come first, with its seeds and for the tasks that
    it has runs of.
    """
    experiment = EXPERIMENTS[name]
    found = _groups(experiment, runs_of(name, seeds=(0,)), tables / f"{name}.csv")
    envs = {group.env for group in found}
    tuned = []
    for reference in experiment.references:
        runs = [
            run
            for run in runs_of(reference, seeds=(0,))
            if run.variant == AS_TUNED and run.plan.env in envs
        ]
        tuned += _groups(experiment, runs, tables / f"{reference}.csv", experiment.seeds)
    return tuned + found


def _groups(
    experiment: Experiment, runs: Sequence[Run], file: Path, seeds: Sequence[int] | None = None
) -> list[Group]:
    """What a table has of runs with these settings up to the experiment's steps, of all seeds or of
    some."""
    if not file.is_file():
        return []
    table = pd.read_csv(file).reindex(columns=COLUMNS)  # tables of before have fewer
    table = table[table["env_steps"] < experiment.steps + experiment.evaluation_interval]
    if seeds is not None:
        table = table[table["seed"].isin(seeds)]
    found = []
    for run in runs:
        own = [run.plan.env, run.plan.algo, run.variant, run.digest]
        rows = table[(table[["env", "algo", "variant", "settings"]] == own).all(axis=1)]
        if len(rows):
            found.append(_group(experiment, run.plan.env, run.plan.algo, run.variant, rows))
    return found


def _group(experiment: Experiment, env: str, algo: str, variant: str, rows: pd.DataFrame) -> Group:
    runs = {int(seed): own for seed, own in rows.groupby("seed")}
    curves = {seed: Curve.of(own["env_steps"], own["return_mean"]) for seed, own in runs.items()}
    threshold = SOLVED.get(env)
    reached = [
        math.nan if threshold is None else steps_to_threshold(curve, threshold)
        for curve in curves.values()
    ]
    ended = [
        curve.steps[-1] >= experiment.steps
        or (experiment.stop_when_solved and _ended_solved(curve, SOLVED[env]))
        for curve in curves.values()
    ]
    shared = min(
        experiment.steps if whole else int(curve.steps[-1])
        for curve, whole in zip(curves.values(), ended, strict=True)
    )
    return Group(
        env=env,
        algo=algo,
        variant=variant,
        total_steps=experiment.steps,
        evaluation_interval=experiment.evaluation_interval,
        curves=curves,
        shared_step=shared - shared % experiment.evaluation_interval,
        finished=all(ended),
        reached=reached,
        returns=np.array([curve.values[-1] for curve in curves.values()]),
        wall_seconds=[float(own["wall_seconds"].max()) for own in runs.values()],
        table=rows.assign(bound_gap=rows["bound_log_return"] - rows["bound_estimate"]),
    )


def _ended_solved(curve: Curve, threshold: float) -> bool:
    """Whether the last evaluations are those that end a run which stops when it is solved."""
    last = curve.values[-EVALUATIONS_TO_STOP:]
    return len(last) == EVALUATIONS_TO_STOP and bool((last >= threshold).all())
