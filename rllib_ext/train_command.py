"""`mnm train`: starts or resumes one run, from the command line's words to the printed summary."""

from __future__ import annotations

import datetime
import json
import math
import sys
import time
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
from rich.console import Console

from distributed.storage import Location
from mnm import ALGORITHMS, Settings
from rllib_ext.algorithm import MnM
from rllib_ext.dry_run import NO_CLUSTER, placement_report, request_report
from rllib_ext.errors import UserError, warn
from rllib_ext.given_settings import parse_assignments, read_settings_file
from rllib_ext.grafana_connection import URL_VARIABLE
from rllib_ext.health import Health
from rllib_ext.interruption import Interruption
from rllib_ext.located import located
from rllib_ext.placement import kinds_of_actors
from rllib_ext.plain_values import figures_as_json
from rllib_ext.progress import JsonLines, ProgressDisplay, write_json_line
from rllib_ext.ray_session import joins_cluster, ray_session
from rllib_ext.room import RoomWatch, warn_if_not_shared
from rllib_ext.run_annotations import run_annotations
from rllib_ext.run_folder import (
    BOUND_FILE,
    CURVE_FILE,
    SUMMARY_FILE,
    keep_checkpoint,
    newest_checkpoint,
    prepare_resume,
    refuse_used_folder,
    remove_if_nothing_came,
    task_of,
)
from rllib_ext.run_plan import RunPlan
from rllib_ext.tracking import tracking_callbacks
from rllib_ext.tune_run import run
from rllib_ext.tuned import tuned_settings

OPTIONS_OF_NO_RUN = ("resume", "trace", "dry_run", "quiet", "json_", "grafana_url")
TRACE_DELAY_S = 2.0  # Ray's processes report their calls once a second
TRACE_NAMES = {  # categories of Ray's timeline
    "task::MnMEnvRunner.apply": "collector: collect",
    "task::RolloutWorker.apply": "rollout worker: imagine",
    "task::_WrappedExecutable.apply": "learner: turn",
    "task::MnM.train": "driver: iteration",
}


def train(
    context: typer.Context,
    env: Annotated[
        str | None, typer.Option(help="Gymnasium id, or module:Id for one of your own.")
    ] = None,
    algo: Annotated[str, typer.Option(help=f"One of {', '.join(ALGORITHMS)}.")] = "mnm",
    steps: Annotated[int, typer.Option(help="Real environment steps.")] = 10_000,
    num_env_runners: Annotated[
        int, typer.Option(help="Ray actors that collect; 0: in the driver.")
    ] = 2,
    num_rollout_workers: Annotated[
        int | None,
        typer.Option(
            help="Ray actors that imagine; 0: in the learner. Default: 1 where there is a model."
        ),
    ] = None,
    max_env_runners: Annotated[
        int | None,
        typer.Option(help="Runners that there may be while the learner waits for real steps."),
    ] = None,
    max_rollout_workers: Annotated[
        int | None, typer.Option(help="Workers that there may be while they are too slow.")
    ] = None,
    num_gpus: Annotated[float, typer.Option(help="GPUs of the learner.")] = 0.0,
    num_gpus_per_rollout_worker: Annotated[
        float,
        typer.Option(help="GPU share of each that imagines; below 1 it is on the learner's node."),
    ] = 0.0,
    placement: Annotated[
        str,
        typer.Option(
            help="pack: actors on few nodes; spread: on many; roles: on those with the resources "
            "learner, collector and rollout_worker."
        ),
    ] = "pack",
    seed: Annotated[int, typer.Option(help="Of weights, environments and all sampling.")] = 0,
    stop_return: Annotated[
        float | None,
        typer.Option(help="Stop when two evaluations in a row have at least this mean return."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML or JSON file of settings by name.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One setting; may be repeated."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="The run's folder, new or empty: a path, or a URI like s3://bucket/run. Default: "
            "under runs/.",
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the run in this folder or URI, as it was started; its steps, actors, "
            "GPUs, placement and return to stop at may be given anew.",
        ),
    ] = None,
    evaluation_interval: Annotated[
        int, typer.Option(help="Real steps between two evaluations.")
    ] = 250,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="File for Ray's timeline of all actors (Chrome trace format: open it in "
            "chrome://tracing or ui.perfetto.dev)."
        ),
    ] = None,
    log_transitions: Annotated[
        bool, typer.Option(help="Log every real step as Parquet in the run's folder.")
    ] = False,
    offline_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Start with these transitions: Parquet files, folders or URIs of them, "
            "minari:ID; may be repeated.",
        ),
    ] = None,
    offline_updates: Annotated[
        int, typer.Option(help="Joint updates on them before the first real step.")
    ] = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what Ray is asked for and whether the cluster has it; start nothing.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show only the closing summary and errors.")
    ] = False,
    json_: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Write one JSON object a line to standard output, for each iteration and the "
            "closing summary.",
        ),
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to Weights & Biases.")
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="EXPERIMENT", help="Log to MLflow, at MLFLOW_TRACKING_URI."),
    ] = None,
    grafana_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=URL_VARIABLE,
            help="Mark start, checkpoints and end on the graphs there, with GRAFANA_TOKEN.",
        ),
    ] = None,
) -> None:
    """Train an agent; writes curves, summary and checkpoint into the run's folder.

    Settings are taken from the task's tuned file, then --config, then --set, by the names of
    MnMConfig.training. With --num-env-runners 0 --num-rollout-workers 0 the learner runs in the
    driver, and two runs of one seed are equal bit for bit. Ctrl-C saves and ends; --resume goes on.
    """
    given = {
        name: value
        for name, value in context.params.items()
        if "COMMANDLINE" in str(context.get_parameter_source(name))
    }
    for name, least in (
        ("steps", 0 if offline_updates or resume else 1),
        ("evaluation_interval", 1),
        ("num_env_runners", 0),
        ("num_rollout_workers", 0),
        ("max_env_runners", 0),
        ("max_rollout_workers", 0),
        ("num_gpus", 0),
        ("num_gpus_per_rollout_worker", 0),
        ("seed", 0),
        ("offline_updates", 0),
    ):
        count = context.params[name]
        if count is not None and not least <= count < 2**32:
            option = name.replace("_", "-")
            raise UserError(f"--{option} {count} is not valid: use {least} or more, below 2**32.")
    if trace is not None and not trace.resolve().parent.is_dir():
        raise UserError(f"--trace {trace}: its folder does not exist; make it first.")
    if trace is not None and trace.is_dir():
        raise UserError(f"--trace {trace} is a folder: name a file.")
    if stop_return is not None and not math.isfinite(stop_return):
        raise UserError(f"--stop-return {stop_return} is not valid: use a number.")
    resume_from = None
    if resume is not None:
        folder = located(resume)
        plan = resumed_plan(folder, given)
        run_config = plan.config(folder, resumes=True)
        if not dry_run:
            resume_from = prepare_resume(folder)
    else:
        plan = new_plan(context.params)
        if output is None:
            now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
            task = plan.env.replace("/", "_").replace(":", "_")
            output = f"runs/{task}-{plan.algo}-seed{seed}-{now}"
        folder = located(output)
        refuse_used_folder(folder)
        run_config = plan.config(folder)
    random_steps = run_config.settings().num_random_steps
    if plan.steps <= random_steps and not plan.offline_updates:
        warn(
            f"all {plan.steps} real steps are random, as num_random_steps={random_steps}, and "
            "nothing is learned: give more --steps, or fewer random ones by --set "
            "num_random_steps=N."
        )
    request = MnM.default_resource_request(run_config)
    kinds = kinds_of_actors(run_config, request)
    if dry_run:
        if not joins_cluster():  # a Ray started here has whatever is asked for
            typer.echo("\n".join(request_report(request, kinds)))
            raise UserError(NO_CLUSTER)
        with ray_session(request):
            lines, fits = placement_report(request, kinds)
        typer.echo("\n".join(lines))
        raise typer.Exit(int(not fits))
    trackers = [
        *tracking_callbacks(plan.wandb, plan.mlflow),
        *run_annotations(grafana_url, "grafana_url" in given, folder.last, plan.title),
    ]
    health = Health(run_config)
    display = ProgressDisplay(plan.title, plan.steps, health, run_config.resolved_max_weight_lag())
    shown = [JsonLines(plan.steps, health) if json_ else display] if not quiet else []
    callbacks = [RoomWatch(request, kinds), *shown, *trackers]
    with (
        redirect_stdout(sys.stderr) if json_ else nullcontext(),
        Interruption(partial(leave, folder)) as interruption,
        ray_session(request),
    ):
        interruption.begin()
        warn_if_not_shared(folder, plan.placement)
        plan.save(folder)
        try:
            summary = run(plan, run_config, folder, callbacks, resume_from)
        finally:
            display.stop()
        traced = trace is not None and write_trace(trace)
    if summary is None:
        print(stopped_message(folder), file=sys.stderr)
        raise typer.Exit(interruption.exit_code)
    if json_:
        write_json_line({"type": "summary", "folder": str(folder), **summary})
        return
    console = Console()
    console.print_json(figures_as_json(summary))
    pictures = ", ".join(file for file in (CURVE_FILE, BOUND_FILE) if (folder / file).is_file())
    console.print(f"Written to {folder}: {SUMMARY_FILE}, {pictures}, checkpoint/", soft_wrap=True)
    if traced:
        console.print(f"Timeline written to {trace}", soft_wrap=True)


def new_plan(options: dict[str, Any]) -> RunPlan:
    """The plan of a new run.

    Args:
        options: of the command line, by name.

    Raises:
        UserError: one is missing or does not go with another.
    """
    env, algo, steps = options["env"], options["algo"], options["steps"]
    if env is None:
        raise UserError("Missing option '--env': name a task, or a run with --resume.")
    if options["offline_updates"] and not options["offline_data"]:
        raise UserError("--offline-updates needs transitions: name them with --offline-data.")
    if algo not in ALGORITHMS:
        raise UserError(f"Unknown algorithm {algo!r}: use one of {', '.join(ALGORITHMS)}.")
    settings = {
        **tuned_settings(env, algo),
        **(read_settings_file(options["config"]) if options["config"] else {}),
        **parse_assignments(options["set_"] or []),
    }
    for name in (
        "algo",
        "num_rollout_workers",
        "max_num_rollout_workers",
        "num_gpus_per_rollout_worker",
    ):
        if name in settings:
            option = name.replace("max_num", "max").replace("_", "-")
            raise UserError(f"{name} is not a setting here: use --{option}.")
    workers = options["num_rollout_workers"]
    interval = options["evaluation_interval"]
    return RunPlan(
        settings=settings,
        num_rollout_workers=int(Settings.preset(algo).has_model) if workers is None else workers,
        # Whole intervals, so that the run ends at --steps.
        evaluation_interval=-(-steps // -(-steps // interval)) if steps else interval,
        offline_data=options["offline_data"] or [],
        **{
            name: options[name]
            for name in (
                "env",
                "algo",
                "steps",
                "num_env_runners",
                "max_env_runners",
                "max_rollout_workers",
                "num_gpus",
                "num_gpus_per_rollout_worker",
                "placement",
                "seed",
                "stop_return",
                "log_transitions",
                "offline_updates",
                "wandb",
                "mlflow",
            )
        },
    )


def resumed_plan(folder: Location, given: dict[str, Any]) -> RunPlan:
    """The plan of the run in `folder`, with the options that were given anew.

    Raises:
        UserError: there is no run, an option cannot change, or the run is over.
    """
    given = {name: value for name, value in given.items() if name not in OPTIONS_OF_NO_RUN}
    plan = RunPlan.load(folder).resumed(given)
    summary = folder / SUMMARY_FILE
    if summary.is_file() and json.loads(summary.read())["env_steps"] >= plan.steps:
        raise UserError(
            f"The run in {folder} has made its {plan.steps} steps: give --steps more to go on."
        )
    return plan


def leave(folder: Location) -> None:
    """For a run that does not end in time: keeps the newest checkpoint there is, and says so."""
    newest = newest_checkpoint(folder)
    if newest is not None and folder.is_local:  # a bucket is too slow now, and --resume finds it
        keep_checkpoint(folder, newest)
    print(stopped_message(folder), file=sys.stderr, flush=True)


def stopped_message(folder: Location) -> str:
    """What was saved of a run that a signal ended, and how to go on; of nothing no folder stays."""
    newest = newest_checkpoint(folder)
    if newest is None:
        if remove_if_nothing_came(folder):
            return "mnm: stopped before the first result; nothing is kept"
        return f"mnm: stopped before the first checkpoint; {folder} cannot be resumed"
    steps = task_of(newest)["env_steps"]
    return (
        f"mnm: stopped; {steps} real steps are saved in {folder}. Go on with: "
        f"mnm train --resume {folder}"
    )


def write_trace(file: Path) -> bool:
    """Writes Ray's timeline, of the newest 100,000 calls, with names that say what was done.

    RLlib's managers send every request through the one method `apply` of the actor.

    Returns:
        Whether it could be written; why not is said, as the run itself is made.
    """
    time.sleep(TRACE_DELAY_S)
    events = ray.timeline()
    for event in events:
        event["name"] = TRACE_NAMES.get(event["cat"], event["name"])
    try:
        file.write_text(json.dumps(events))
    except OSError as error:
        warn(f"the timeline is not written to {file}: {error.strerror}.")
        return False
    return True
