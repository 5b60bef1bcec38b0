"""docs/results.md from the tables: which setting to use for a task, what was measured, what not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.learning.experiments import AS_TUNED, EXPERIMENTS, Experiment
from benchmarks.learning.summary import Group, groups
from benchmarks.learning.tables import TABLES
from rllib_ext.tuned import tuned_tasks

PAGE = Path(__file__).parent.parent.parent / "docs" / "results.md"
COLORS = {"mnm": "#c8551b", "mnm-approx": "#7a4fa3", "mbpo": "#1f5fa8", "sac": "#6b7785"}
FEW = 3  # seeds; with less an algorithm is not compared
NOT_RUN = "not run"


def write(tables: Path = TABLES, page: Path = PAGE) -> None:
    """Writes the page, and beside it a figure of each experiment that has a table."""
    page.write_text(text(tables), encoding="utf-8")
    for name, experiment in EXPERIMENTS.items():
        found = groups(name, tables)
        if found:
            draw(experiment, found, page.parent / figure_name(name))


def text(tables: Path = TABLES) -> str:
    """The page."""
    found = {name: groups(name, tables) for name in EXPERIMENTS}
    lines = [
        "# Which setting do I use for my task?",
        "",
        "| task | use | seeds that solved it | steps, median | return at the end, IQM (95 %) | "
        "compared with |",
        "|---|---|---|---|---|---|",
    ]
    unmeasured = []
    for name, own in found.items():
        if len(EXPERIMENTS[name].algos) == 1:
            continue  # an ablation compares no algorithms
        for env in EXPERIMENTS[name].envs:
            of_env = [group for group in own if group.env == env and group.variant == AS_TUNED]
            best = recommended(of_env)
            if best is None:
                unmeasured.append(f"{env} ({_state(of_env)})")
            else:
                command = f"`mnm train --env {env} --algo {best.algo}`"
                others = [_count(group) for group in of_env if group is not best and group.finished]
                lines.append(
                    f"| {env} | {command} | {_row(best, EXPERIMENTS[name])} | "
                    f"{', '.join(others) or 'nothing'} |"
                )
    measured = {env for experiment in EXPERIMENTS.values() for env in experiment.envs}
    unmeasured += [f"{env} ({NOT_RUN})" for env in tuned_tasks() if env not in measured]
    lines += [
        "",
        f"Not enough was run to say: {', '.join(unmeasured) or 'none'}.",
        "For these the presets in `rllib_ext/tuned/` are starting points that nobody has shown to",
        "learn here; a task without a preset takes the defaults of the algorithm.",
        "",
        '"Use" names, of the algorithms that were run, the one that solved the task in the largest',
        "share of its seeds, then the one with the fewest steps at the median, then the one with",
        f"the highest return. Below {FEW} seeds it is an example and no comparison. `mnm train`",
        "takes the task's settings from there by itself.",
        "",
        "All of this page is generated from `benchmarks/results/learning/` by",
        "`python -m benchmarks.learning --page`. A return is the mean of ten episodes of the",
        "policy's mode; IQM is the interquartile mean over seeds, with a 95 % bootstrap interval.",
        "A run without actors repeats bit for bit on one machine, so an experiment's command makes",
        "its numbers again. Where runs end when solved, two evaluations in a row at the threshold",
        "end one, which then counts on with its last return. Seconds are of a core that other work",
        "shared.",
        "",
    ]
    for name, experiment in EXPERIMENTS.items():
        lines += _section(name, experiment, found[name])
    lines += _theory(found)
    return "\n".join(lines).rstrip() + "\n"


def recommended(found: Sequence[Group]) -> Group | None:
    """The best group of whole runs, those of few seeds last; None where there is none."""
    return max(
        (group for group in found if group.finished),
        default=None,
        key=lambda group: (
            len(group.returns) >= FEW,
            group.solved / len(group.returns),
            -_median(group.reached),
            group.interval[0],
        ),
    )


def _section(name: str, experiment: Experiment, found: Sequence[Group]) -> list[str]:
    lines = [f"## {name}: {', '.join(experiment.envs)}", "", experiment.question]
    if experiment.threshold is not None:
        lines[-1] += (
            f" Solved: {experiment.threshold:g} or more, asked for within "
            f"{experiment.threshold_steps:,} steps."
        )
    lines[-1] += (
        f" `make learn-{name}`: {experiment.steps:,} steps, seeds "
        f"{', '.join(map(str, experiment.seeds))}, an evaluation every "
        f"{experiment.evaluation_interval:,} steps, about {experiment.hours:g} hours of one core"
        f"{', runs end when solved' if experiment.stop_when_solved else ''}."
    )
    absent = [
        f"{algo} ({variant})" if variant != AS_TUNED else algo
        for algo in experiment.algos
        for variant in experiment.variants
        if not any(group.algo == algo and group.variant == variant for group in found)
    ]
    if found:
        lines += [
            "",
            f"![Returns over real steps]({figure_name(name)})",
            "",
            "| algorithm | runs | seeds that solved it | steps, median (each) | return at the end, "
            "IQM (95 %) | seconds a run | classifier accuracy | bound less log return, nats |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [f"| {_label(group)} | {_whole_row(group, experiment)} |" for group in found]
    if absent:
        lines += ["", f"{NOT_RUN.capitalize()}: {', '.join(absent)}."]
    return [*lines, ""]


def _row(group: Group, experiment: Experiment) -> str:
    return f"{_solved(group, experiment)} | {_steps(_median(group.reached))} | {_return(group)}"


def _whole_row(group: Group, experiment: Experiment) -> str:
    each = ", ".join(_steps(steps) for steps in group.reached)
    steps = f"{_steps(_median(group.reached))} ({each})" if experiment.threshold is not None else ""
    gap = group.last_median("bound_estimate") - group.last_median("bound_log_return")
    runs = f"{len(group.returns)}" + ("" if group.finished else f", to {group.last_step:,} steps")
    figures = (
        runs,
        _solved(group, experiment),
        steps,
        _return(group),
        f"{np.median(group.wall_seconds):.0f}",
        _number(group.last_median("classifier_accuracy"), ".2f"),
        _number(gap, "+.3g"),
    )
    return " | ".join(figures)


def _theory(found: dict[str, list[Group]]) -> list[str]:
    """Which figure of the model goes with the return over training."""
    lines = [
        "## What goes with the return",
        "",
        "Spearman's rank correlation, over a run's evaluations, of the return with the model's",
        "held-out negative log-likelihood and with the estimate of the bound; mean over runs. If",
        "likelihood is the wrong objective, as the paper argues, the first is near zero and the",
        "second near one.",
        "",
        "| task | algorithm | with held-out NLL | with the bound |",
        "|---|---|---|---|",
    ]
    rows = [
        f"| {group.env} | {_label(group)} | {_rank(group, 'model_holdout_nll')} | "
        f"{_rank(group, 'bound_estimate')} |"
        for own in found.values()
        for group in own
        if not math.isnan(group.correlation("bound_estimate"))
    ]
    return [*lines, *rows] if rows else []


def draw(experiment: Experiment, found: Sequence[Group], file: Path) -> None:
    """Draws interquartile means over real steps with their intervals, one panel a task."""
    envs = list(dict.fromkeys(group.env for group in found))
    figure = matplotlib.figure.Figure(figsize=(6.4 * len(envs), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for place, env in enumerate(envs):
        axes = figure.add_subplot(1, len(envs), place + 1)
        for group in (group for group in found if group.env == env):
            curve = group.mean_curve(experiment.evaluation_interval)
            color = COLORS[group.algo]
            label = f"{_label(group)}: {len(group.returns)} run(s)"
            axes.plot(curve["steps"], curve["iqm"], color=color, label=label)
            axes.fill_between(
                curve["steps"], curve["low"], curve["high"], color=color, alpha=0.2, linewidth=0
            )
        if experiment.threshold is not None:
            axes.axhline(experiment.threshold, color="#444444", linewidth=0.8, linestyle=":")
        axes.set(xlabel="real environment steps", ylabel="evaluation return", title=env)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=110)


def figure_name(name: str) -> str:
    """File of an experiment's figure, as the page names it."""
    return f"images/results-{name}.png"


def _label(group: Group) -> str:
    return group.algo if group.variant == AS_TUNED else f"{group.algo}, {group.variant}"


def _count(group: Group) -> str:
    return f"{group.algo} ({len(group.returns)})"


def _state(found: Sequence[Group]) -> str:
    parts = [f"{group.algo} {len(group.returns)} to {group.last_step:,}" for group in found]
    return f"runs: {', '.join(parts)} steps" if parts else NOT_RUN


def _solved(group: Group, experiment: Experiment) -> str:
    return "" if experiment.threshold is None else f"{group.solved} of {len(group.returns)}"


def _return(group: Group) -> str:
    mean, low, high = group.interval
    shown = f"{mean:.4g}"
    return shown if math.isnan(low) else f"{shown} ({low:.4g} to {high:.4g})"


def _median(reached: Sequence[float]) -> float:
    """A run that did not get there took longer than all others."""
    return float(np.median([math.inf if math.isnan(steps) else steps for steps in reached]))


def _steps(steps: float) -> str:
    return f"{steps:,.0f}" if math.isfinite(steps) else "–"


def _rank(group: Group, column: str) -> str:
    return _number(group.correlation(column), "+.2f")


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
