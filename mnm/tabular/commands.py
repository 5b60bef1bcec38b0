"""The command ``mnm figures``: compute every tabular experiment, draw it, write its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mnm.tabular import beyond, experiments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERS_FILE = "figures.json"


@dataclass(frozen=True)
class Experiment:
    """One figure: where its numbers come from and what it shows, in a few words."""

    compute: Callable[[int, experiments.Progress], experiments.Data]
    shows: str


EXPERIMENTS: dict[str, Experiment] = {
    "learning": Experiment(experiments.learning, "learning online in a stochastic grid"),
    "optimism": Experiment(experiments.optimism, "the best model is optimistic"),
    "inaccurate-model": Experiment(experiments.inaccurate_model, "planning with an aliased model"),
    "risk": Experiment(experiments.risk, "who takes the slippery road"),
    "bound": Experiment(experiments.bound, "bounds and log return while planning"),
    "coefficient": Experiment(beyond.coefficient, "coefficient gamma against 1"),
    "tight-bound": Experiment(beyond.tight_bound, "the bound that is exactly tight"),
    "entropy-gap": Experiment(beyond.entropy_gap, "what stays open for stochastic policies"),
    "initial-values": Experiment(beyond.initial_values, "the learning figure from equal starts"),
}


def figures(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the PNG files and figures.json; made if new.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help=f"Draw only this one; repeatable. {', '.join(EXPERIMENTS)}."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Repetitions of the learning experiments.")
    ] = 5,
) -> None:
    """Draw the tabular figures, exactly solved, and write every plotted number beside them.

    Writes one PNG per experiment and figures.json, one entry per experiment; entries that this
    run does not compute are kept. A minute or two for all of them on one core.
    """
    chosen = list(dict.fromkeys(only)) if only else list(EXPERIMENTS)
    for name in chosen:
        if name not in EXPERIMENTS:
            raise typer.BadParameter(
                f"{name!r} is not a figure; choose from {', '.join(EXPERIMENTS)}.",
                param_hint="--only",
            )
    out.mkdir(parents=True, exist_ok=True)
    numbers_path = out / NUMBERS_FILE
    numbers = _earlier_numbers(numbers_path)

    console = Console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<17}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[shows]}"),
    )
    with Progress(*columns, console=console) as bar:
        for name in chosen:
            experiment = EXPERIMENTS[name]
            task = bar.add_task(name, total=1.0, shows=experiment.shows)

            def report(done: float, task: Any = task) -> None:
                bar.update(task, completed=done)

            data = experiment.compute(seeds, report)
            _draw(name, data, out / f"{name}.png")
            numbers[name] = data
            numbers_path.write_text(json.dumps(numbers, allow_nan=False) + "\n", encoding="utf-8")
            bar.update(task, completed=1.0)
    console.print(f"{len(chosen)} figures and {NUMBERS_FILE} are in {out}")


def _earlier_numbers(path: Path) -> dict[str, Any]:
    """What an earlier run left in the folder, so that --only replaces one entry and no more."""
    if not path.exists():
        return {}
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(
            f"{path} is not valid JSON ({error}); move it away or choose another folder.",
            param_hint="--out",
        ) from error
    if not isinstance(numbers, dict):
        raise typer.BadParameter(
            f"{path} was not written by this command; choose another folder.", param_hint="--out"
        )
    return numbers


def _draw(name: str, data: experiments.Data, path: Path) -> None:
    """Draw one figure; matplotlib is imported only here, so that the command line starts fast."""
    from mnm.tabular import beyond_figures
    from mnm.tabular import figures as paper_figures
    from mnm.tabular.figure_style import in_style, save

    drawings: dict[str, Callable[[experiments.Data], Figure]] = {
        "learning": paper_figures.draw_learning,
        "optimism": paper_figures.draw_optimism,
        "inaccurate-model": paper_figures.draw_inaccurate_model,
        "risk": paper_figures.draw_risk,
        "bound": paper_figures.draw_bound,
        "coefficient": beyond_figures.draw_coefficient,
        "tight-bound": beyond_figures.draw_tight_bound,
        "entropy-gap": beyond_figures.draw_entropy_gap,
        "initial-values": beyond_figures.draw_initial_values,
    }
    with in_style():
        save(drawings[name](data), path)
