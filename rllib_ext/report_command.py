"""`mnm report`: writes one HTML page on one or more runs, and their numbers as CSV."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from distributed.storage import Location
from rllib_ext.errors import UserError
from rllib_ext.report.model_check import ModelCheck, check_models
from rllib_ext.report.page import render_page
from rllib_ext.report.runs import group_runs, load_runs
from rllib_ext.report.tables import error_curves, write_tables


def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folders of runs, finished or not; or their URIs in a bucket."),
    ],
    output: Annotated[
        Path, typer.Option(help="HTML file to write; an old one is replaced.")
    ] = Path("report.html"),
    tables: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the same numbers as CSV.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Return whose first steps are given. Default: a run's --stop-return."),
    ] = None,
    episodes: Annotated[
        int,
        typer.Option(help="Real episodes a run that its model is checked on; 0: no check."),
    ] = 3,
) -> None:
    """Report on runs: curves, bound, model, time, settings and commands on one HTML page.

    Runs that differ in their seed alone make a group, whose curve is an interquartile mean with a
    95 % bootstrap interval. No pickle is read, and nothing in the runs' folders is changed.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UserError(f"--threshold {threshold} is not valid: use a number.")
    if episodes < 0:
        raise UserError(f"--episodes {episodes} is not valid: use 0 or more.")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name a file in it.")
    if not output.resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder does not exist; make it first.")
    if tables is not None and tables.is_file():
        raise UserError(f"--tables {tables} is a file: name a folder.")
    groups = group_runs(load_runs(runs))
    checks: dict[Location, ModelCheck] = {}
    notes: list[str] = []
    tasks = list(dict.fromkeys(group.env for group in groups))
    for env in tasks if episodes else ():
        own = [run for group in groups if group.env == env for run in group.runs]
        checked, unchecked = check_models(own, episodes)
        checks.update(checked)
        notes += unchecked
    output.write_text(render_page(groups, checks, notes, threshold), encoding="utf-8")
    typer.echo(f"Written to {output}.")
    if tables is not None:
        errors = {
            env: error_curves([group for group in groups if group.env == env], checks)
            for env in tasks
        }
        names = write_tables(tables, groups, threshold, errors)
        typer.echo(f"Written to {tables}: {', '.join(names)}.")
