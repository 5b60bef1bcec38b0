"""docs/results.md from the tables: which setting to use for a task, what was measured, what not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.learning.experiments import AS_TUNED, EXPERIMENTS, SOLVED, Experiment, short_name
from benchmarks.learning.figures import draw_returns, draw_theory
from benchmarks.learning.runs import runs_of
from benchmarks.learning.summary import LEAST_POINTS, Group, groups
from benchmarks.learning.tables import TABLES
from rllib_ext.bound_view import FAR_OFF
from rllib_ext.tuned import tuned_tasks

PAGE = Path(__file__).parent.parent.parent / "docs" / "results.md"
CHEAPEST_FIRST = ("sac", "mbpo", "mnm-approx", "mnm")  # by the computing of a real step
FEW = 3  # seeds; with less an algorithm is not compared
NOT_RUN = "not run"
THEORY_FIGURE = "images/results-theory.png"
SUMMARY, FINDINGS = "summary", "findings"  # notes of no one experiment
NOTES = "notes"  # folder beside the tables: what an experiment shows, written by hand


def write(tables: Path = TABLES, page: Path = PAGE) -> None:
    """Writes the page, and beside it a figure of each experiment that has a table."""
    page.write_text(text(tables), encoding="utf-8")
    found = {name: groups(name, tables) for name in EXPERIMENTS}
    for name, own in found.items():
        if own:
            draw_returns(own, page.parent / figure_name(name))
    if with_bound := _with_bound(found):
        draw_theory(with_bound, page.parent / THEORY_FIGURE)


def text(tables: Path = TABLES) -> str:
    """The page."""
    found = {name: groups(name, tables) for name in EXPERIMENTS}
    rows, unmeasured = _answers(found)
    lines = [
        "# Which setting do I use for my task?",
        "",
        "| task | use | seeds that solved it | steps, median | return at the end, IQM (95 %) | "
        "not told apart | behind |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "**Use** names, of the algorithms that solved the task in the largest share of their",
        "seeds, one that none of these is ahead of: of several the one that computes least a",
        "step, in the order sac, mbpo, mnm-approx, mnm. Ahead is who needs fewer evaluations to",
        "solve the task, or has the higher return where no threshold is set, with 95 % intervals",
        "of the interquartile mean that do not overlap; a run that did not solve it counts as one",
        "that did an evaluation after its end. The others are **behind** the named one or **not",
        "told apart** from it, which does not say that they are equal. Of two equal algorithms,",
        "three seeds each put one behind in one case of ten, five in one of fifty. In brackets:",
        f"seeds; below {FEW} an algorithm is not compared. A task counts as solved at the first",
        "evaluation that meets its threshold, whatever the later ones say.",
        "**None of** stands before those that solved it in no seed.",
        "",
        "`mnm train` takes the task's settings by itself. With actors, its default, a run takes",
        "other steps than with `--num-env-runners 0 --num-rollout-workers 0`, as all runs here",
        "were made; `make learn-NAME` of a section below makes its runs again, with the code of",
        "today.",
        "",
        f"Not enough was run to say: {', '.join(unmeasured) or 'none'}.",
        "For these the presets in `rllib_ext/tuned/` are starting points that nobody has shown to",
        "learn here; a task without a preset takes the defaults of the algorithm",
        "([Tuning](tuning.md#mnm-on-a-task-without-a-preset)).",
        "",
    ]
    if summary := _notes(SUMMARY, tables):
        lines += [summary, ""]
    lines += [
        "The settings were found by watching `mnm`, or `mbpo` on Hopper-v5 and HalfCheetah-v5,",
        "some of the seeds below among them, those of Reacher-v5 by rule (the notes say which);",
        "the other algorithms take those that they share and were not tuned as much.",
        "",
        "All of this page is generated from `benchmarks/results/learning/` by `python -m",
        "benchmarks.learning --page`. A return is the mean of ten episodes of the policy's mode;",
        "IQM is the interquartile mean over seeds, of three the plain mean, with a 95 % bootstrap",
        "interval, which with three seeds is nearly their range. Runs in one process repeat bit",
        "for bit on one machine with the code that made them: the tables name the commit of each,",
        "with a + where changes were not committed. Where runs end when solved, two evaluations",
        "in a row at the threshold end one, which then counts on with its last return. Figures of",
        "the classifier and the bound are medians over the runs, of each one's last evaluation.",
        "Seconds are of a core that other work shared.",
        "",
    ]
    for name, experiment in EXPERIMENTS.items():
        lines += _section(name, experiment, found[name], tables)
    lines += _theory(found, tables)
    if findings := _notes(FINDINGS, tables):
        lines += ["", "## What held the returns back", "", findings]
    return "\n".join(lines).rstrip() + "\n"


def _answers(found: dict[str, list[Group]]) -> tuple[list[str], list[str]]:
    """The first table's rows, and the tasks that too little was run of, with what there is."""
    answers, unsolved, unmeasured = [], [], []
    # Tasks that users have come before those made for a question.
    for name, own in sorted(found.items(), key=lambda item: _is_made(EXPERIMENTS[item[0]])):
        if EXPERIMENTS[name].references:
            continue  # an ablation compares no algorithms
        for env in EXPERIMENTS[name].envs:
            of_env = [group for group in own if group.env == env and group.variant == AS_TUNED]
            ranked = rank(of_env)
            if not ranked:
                unmeasured.append(f"{short_name(env)} ({_state(of_env)})")
            elif env in SOLVED and not ranked[0].solved:
                unsolved.append(
                    f"| {short_name(env)} | none of {_counts(ranked)} | {_row(ranked[0])} |  |  |"
                )
            else:
                use = named(ranked)
                behind = [group for group in ranked if group.is_behind(use)]
                others = [group for group in ranked if group is not use and group not in behind]
                cells = (f"`{_command(name, use)}`", _row(use), _counts(others), _counts(behind))
                answers.append(f"| {short_name(env)} | {' | '.join(cells)} |")
    measured = {env for experiment in EXPERIMENTS.values() for env in experiment.envs}
    unmeasured += [f"{env} ({NOT_RUN})" for env in tuned_tasks() if env not in measured]
    return answers + unsolved, unmeasured


def rank(found: Sequence[Group]) -> list[Group]:
    """The groups of whole runs with seeds enough to be compared, the best first."""
    return sorted(
        (group for group in found if group.finished and len(group.returns) >= FEW),
        key=lambda group: (
            -group.solved / len(group.returns),
            np.median(group.steps_to_solve()) if group.env in SOLVED else 0.0,
            -group.interval()[0],
        ),
    )


def named(ranked: Sequence[Group]) -> Group:
    """Of the groups that solved the largest share and are behind none of these, the one whose
    algorithm computes least a step."""
    best = ranked[0]
    most = [g for g in ranked if g.solved * len(best.returns) == best.solved * len(g.returns)]
    ahead = [group for group in most if not any(group.is_behind(other) for other in most)]
    return min(ahead, key=lambda group: CHEAPEST_FIRST.index(group.algo))


def _section(name: str, experiment: Experiment, found: Sequence[Group], tables: Path) -> list[str]:
    envs = experiment.envs
    lines = [f"## {name}: {', '.join(map(short_name, envs))}", "", experiment.question]
    if solved := dict.fromkeys(f"{SOLVED[env]:g} or more" for env in envs if env in SOLVED):
        lines[-1] += f" Solved at {', '.join(solved)}"
        if experiment.asked_within is not None:
            lines[-1] += f"; the aim is to be there within {experiment.asked_within:,} steps"
        lines[-1] += "."
    lines[-1] += (
        f" `make learn-{name}`: {experiment.steps:,} steps, seeds "
        f"{', '.join(map(str, experiment.seeds))}, an evaluation every "
        f"{experiment.evaluation_interval:,} steps, about {experiment.hours:g} h of one core"
        f"{', runs end when solved' if experiment.stop_when_solved else ''}."
    )
    if experiment.references:
        others = " and ".join(experiment.references)
        lines[-1] += f" Beside them stand the tuned runs of {others}, up to these steps."
    if found:
        lines += ["", f"![Returns over real steps]({figure_name(name)})"]
    for env in envs:
        of_env = [group for group in found if group.env == env]
        if of_env:
            # Where runs are not whole, all are compared at the steps that each has made.
            step = None if all(g.finished for g in of_env) else min(g.shared_step for g in of_env)
            when = "the end" if step is None else f"{step:,} steps"
            lines += [
                "",
                f"| {short_name(env)} | runs | seeds that solved it | steps, median (each) | "
                f"return at {when}, IQM (95 %) | seconds a run | classifier accuracy | "
                "log return less bound, nats |",
                "|---|---|---|---|---|---|---|---|",
            ]
            lines += [f"| {group.label} | {_whole_row(group, step)} |" for group in of_env]
    if absent := _absent(name, found):
        lines += ["", f"{NOT_RUN.capitalize()}: {', '.join(absent)}."]
    if notes := _notes(name, tables):
        lines += ["", notes]
    return [*lines, ""]


def _notes(name: str, tables: Path) -> str:
    file = tables / NOTES / f"{name}.md"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _command(name: str, best: Group) -> str:
    """What trains with the settings that a group was made with."""
    if _is_made(EXPERIMENTS[name]):
        return f"make learn-{name} ARGS='--only {short_name(best.env)}/{best.algo}/'"
    return f"mnm train --env {best.env} --algo {best.algo} --steps {EXPERIMENTS[name].steps}"


def _is_made(experiment: Experiment) -> bool:
    """Whether its tasks are the project's own, with settings that `mnm train` does not know."""
    return bool(experiment.settings or experiment.tuned_as)


def _absent(name: str, found: Sequence[Group]) -> list[str]:
    """What an experiment has no runs of; with the tasks where others of its tasks have some."""
    made = {(group.env, group.algo, group.variant) for group in found}
    planned: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for run in runs_of(name, seeds=(0,)):
        told = (run.plan.env, run.plan.algo, run.variant)
        label = run.plan.algo if run.variant == AS_TUNED else f"{run.plan.algo} ({run.variant})"
        planned.setdefault(label, []).append(short_name(run.plan.env))
        if told not in made:
            absent.setdefault(label, []).append(short_name(run.plan.env))
    return [
        label if envs == planned[label] else f"{label} on {' and '.join(envs)}"
        for label, envs in absent.items()
    ]


def _row(group: Group) -> str:
    steps = _steps(_median(group.reached)) if group.env in SOLVED else ""
    return f"{_solved(group)} | {steps} | {_return(group)}"


def _whole_row(group: Group, step: int | None) -> str:
    each = ", ".join(_steps(steps) for steps in group.reached)
    steps = f"{_steps(_median(group.reached))} ({each})" if group.env in SOLVED else ""
    lengths = ", ".join(f"{curve.steps[-1]:,.0f}" for curve in group.curves.values())
    runs = f"{len(group.returns)}" + ("" if group.finished else f", to {lengths} steps")
    figures = (
        runs,
        _solved(group),
        steps,
        _return(group, step),
        f"{np.median(group.wall_seconds):.0f}",
        _number(group.last_median("classifier_accuracy"), ".2f"),
        _number(group.last_median("bound_gap"), "+.3g"),
    )
    return " | ".join(figures)


def _theory(found: dict[str, list[Group]], tables: Path) -> list[str]:
    """Bound, model and return over training."""
    rows = [
        f"| {short_name(group.env)} | {group.label} | {_path(group, 'bound_gap')} | "
        f"{_path(group, 'model_optimism')} | {_rank(group, 'model_holdout_nll')} | "
        f"{_rank(group, 'bound_estimate')} |"
        for group in _with_bound(found)
    ]
    lines = [
        "## What the theory predicts",
        "",
        "Over training, the bound should come close to the log return from below (a gap that is",
        "positive and shrinks) and the model should promise more than comes (optimism above",
        "zero), less so the better the policy. Both are medians over runs, in nats, at a run's",
        "first evaluation with a model, half way and at its end; in the figure, over the runs",
        "that came so far. The last columns are Spearman's rank correlations of a run's",
        "evaluation returns with its model's held-out negative log-likelihood and with the",
        f"estimate of the bound, median over the runs of {LEAST_POINTS} or more such evaluations,",
        "in brackets how many: if likelihood is the wrong objective for a model, as the paper",
        "argues, the bound tells the return better than the likelihood does (-1 would be a",
        "likelihood that tells all, +1 a bound that does). Within a run all three change with",
        f"training, so that this is a hint and no proof. Gaps beyond {FAR_OFF:,.0f} nats are not",
        "drawn.",
        "",
        f"![Gap and optimism in nats over real steps]({THEORY_FIGURE})",
        "",
        "| task | algorithm | gap | optimism | return with held-out NLL | return with the bound |",
        "|---|---|---|---|---|---|",
    ]
    if rows and (notes := _notes("theory", tables)):
        rows += ["", notes]
    return [*lines, *rows] if rows else []


def _with_bound(found: dict[str, list[Group]]) -> list[Group]:
    """The groups as tuned whose runs estimate the bound, of each task's and algorithm's the
    first: an experiment's references come before what refers to them."""
    known: dict[tuple[str, str], Group] = {}
    for group in itertools.chain.from_iterable(found.values()):
        if group.variant == AS_TUNED and len(group.figure("bound_gap")):
            known.setdefault((group.env, group.algo), group)
    return list(known.values())


def _path(group: Group, column: str) -> str:
    """Course of a figure."""
    return ", ".join(f"{value:+.3g}" for value in group.course(column))


def figure_name(name: str) -> str:
    """File of an experiment's figure, as the page names it."""
    return f"images/results-{name}.png"


def _counts(found: Sequence[Group]) -> str:
    return ", ".join(f"{group.algo} ({len(group.returns)})" for group in found)


def _state(found: Sequence[Group]) -> str:
    parts = [f"{group.algo} {len(group.returns)} to {group.last_step:,}" for group in found]
    return f"runs: {', '.join(parts)} steps" if parts else NOT_RUN


def _solved(group: Group) -> str:
    return f"{group.solved} of {len(group.returns)}" if group.env in SOLVED else ""


def _return(group: Group, step: int | None = None) -> str:
    mean, low, high = group.interval(step)
    shown = f"{mean:.4g}"
    return shown if math.isnan(low) else f"{shown} ({low:.4g} to {high:.4g})"


def _median(reached: Sequence[float]) -> float:
    """A run that did not get there took longer than all others."""
    return float(np.median([math.inf if math.isnan(steps) else steps for steps in reached]))


def _steps(steps: float) -> str:
    return f"{steps:,.0f}" if math.isfinite(steps) else "–"


def _rank(group: Group, column: str) -> str:
    value, runs = group.correlation(column)
    return f"{value:+.2f} ({runs})" if runs else ""


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
