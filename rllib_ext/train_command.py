"""`mnm train`: one run on Ray Tune, from the command line to the run's folder."""

from __future__ import annotations

import datetime
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import ray
import typer
import yaml
from ray import tune
from rich.console import Console

from distributed.offline_data import LOG_FOLDER, OfflineData
from mnm import ALGORITHMS, Settings
from rllib_ext.algorithm import MnM
from rllib_ext.config import OWN_NAMES, SETTING_NAMES, MnMConfig, unknown_setting
from rllib_ext.environments import probe_spaces, task_spaces
from rllib_ext.errors import UserError, root_cause
from rllib_ext.evaluation import evaluate_policy
from rllib_ext.progress import ProgressDisplay
from rllib_ext.ray_session import first_line, ray_session
from rllib_ext.run_folder import (
    BOUND_FILE,
    CURVE_FILE,
    STEPS_COLUMN,
    SUMMARY_FILE,
    draw_bound,
    draw_learning_curve,
    keep_checkpoint,
    refuse_used_folder,
    write_summary,
)
from rllib_ext.tracking import tracking_callbacks
from rllib_ext.tuned import tuned_settings

FINAL_EPISODES = 10
EVALUATIONS_TO_STOP = 2  # in a row, at --stop-return or above
CHECKPOINTS = 20  # of a whole run, at least one an iteration in a short one
TRIAL_FOLDER = "."  # a run is one trial: its files lie in the run's folder itself
TRACE_DELAY_S = 2.0  # Ray's processes report their calls once a second
TRACE_NAMES = {  # categories of Ray's timeline
    "task::MnMEnvRunner.apply": "collector: collect",
    "task::RolloutWorker.apply": "rollout worker: imagine",
    "task::_WrappedExecutable.apply": "learner: turn",
    "task::MnM.train": "driver: iteration",
}
FINAL_SEED = 1_000_000  # of the final evaluation's environment, apart from those of training


def train(
    env: Annotated[str, typer.Option(help="Gymnasium id, or module:Id for one of your own.")],
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
        Path | None, typer.Option(help="The run's folder, new or empty. Default: under runs/.")
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
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to Weights & Biases.")
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="EXPERIMENT", help="Log to MLflow, at MLFLOW_TRACKING_URI."),
    ] = None,
) -> None:
    """Train an agent; writes curves, summary and checkpoint into the run's folder.

    Settings are taken from the task's tuned file, then --config, then --set, by the names of
    MnMConfig.training. With --num-env-runners 0 --num-rollout-workers 0 the learner runs in the
    driver, and two runs of one seed are equal bit for bit.
    """
    for name, count, least in (
        ("--steps", steps, 0 if offline_updates else 1),
        ("--evaluation-interval", evaluation_interval, 1),
        ("--num-env-runners", num_env_runners, 0),
        ("--num-rollout-workers", num_rollout_workers or 0, 0),
        ("--max-env-runners", max_env_runners or 0, 0),
        ("--max-rollout-workers", max_rollout_workers or 0, 0),
        ("--num-gpus", num_gpus, 0),
        ("--seed", seed, 0),
        ("--offline-updates", offline_updates, 0),
    ):
        if not least <= count < 2**32:
            raise UserError(f"{name} {count} is not valid: use {least} or more, below 2**32.")
    if offline_updates and not offline_data:
        raise UserError("--offline-updates needs transitions: name them with --offline-data.")
    if algo not in ALGORITHMS:
        raise UserError(f"Unknown algorithm {algo!r}: use one of {', '.join(ALGORITHMS)}.")
    settings = {
        **tuned_settings(env, algo),
        **(read_settings_file(config) if config else {}),
        **parse_assignments(set_ or []),
    }
    for name in ("algo", "num_rollout_workers"):
        if name in settings:
            raise UserError(f"{name} is not a setting here: use --{name.replace('_', '-')}.")
    if num_rollout_workers is None:
        num_rollout_workers = int(Settings.preset(algo).has_model)
    if max_rollout_workers is not None:
        settings["max_num_rollout_workers"] = max_rollout_workers
    run_config = build_config(
        env,
        algo,
        settings,
        num_env_runners=num_env_runners,
        num_rollout_workers=num_rollout_workers,
        max_env_runners=max_env_runners,
        num_gpus=num_gpus,
        seed=seed,
        # Whole intervals, so that the run ends at --steps.
        evaluation_interval=(
            -(-steps // -(-steps // evaluation_interval)) if steps else evaluation_interval
        ),
        offline_data=offline_data or [],
        offline_updates=offline_updates,
    )
    if output is None:
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        output = Path("runs") / f"{env.replace('/', '_').replace(':', '_')}-{algo}-seed{seed}-{now}"
    refuse_used_folder(output)
    if trace is not None and not trace.resolve().parent.is_dir():
        raise UserError(f"--trace {trace}: its folder does not exist; make it first.")
    if log_transitions:
        run_config.offline_data(output=output / LOG_FOLDER, output_run=output.resolve().name)
    trackers = tracking_callbacks(wandb, mlflow)
    display = ProgressDisplay(f"{algo} on {env}, seed {seed}", steps)
    with ray_session(MnM.default_resource_request(run_config)):
        try:
            summary = run(run_config, output.resolve(), steps, stop_return, [display, *trackers])
        finally:
            display.stop()
        if trace is not None:
            write_trace(trace)
    console = Console()
    console.print_json(json.dumps(summary))
    pictures = ", ".join(file for file in (CURVE_FILE, BOUND_FILE) if (output / file).is_file())
    console.print(f"Written to {output}: {SUMMARY_FILE}, {pictures}, checkpoint/", soft_wrap=True)
    if trace is not None:
        console.print(f"Timeline written to {trace}", soft_wrap=True)


def build_config(
    env: str,
    algo: str,
    settings: dict[str, Any],
    *,
    num_env_runners: int,
    num_rollout_workers: int,
    num_gpus: float,
    seed: int,
    evaluation_interval: int,
    max_env_runners: int | None = None,
    offline_data: Sequence[str] = (),
    offline_updates: int = 0,
) -> MnMConfig:
    """The config of a run, checked down to the environment's spaces and the offline data's columns.

    Raises:
        UserError: something in it is wrong; one sentence.
    """
    unknown = sorted(set(settings) - set(SETTING_NAMES) - set(OWN_NAMES))
    if unknown:
        raise UserError(unknown_setting(unknown[0]))
    local = num_env_runners == 0 and num_rollout_workers == 0
    try:
        config = (
            MnMConfig()
            .environment(env)
            .env_runners(num_env_runners=num_env_runners, max_num_env_runners=max_env_runners)
            .learners(num_learners=0 if local else 1, num_gpus_per_learner=num_gpus)
            .training(**{**settings, "algo": algo, "num_rollout_workers": num_rollout_workers})
            .evaluation(evaluation_interval=1, evaluation_duration=FINAL_EPISODES)
            .reporting(min_sample_timesteps_per_iteration=evaluation_interval)
            .debugging(seed=seed)
            .offline_data(input_=offline_data, offline_updates=offline_updates)
        )
        config.validate()
        spaces = probe_spaces(config)
        if offline_data:
            for warning in OfflineData(offline_data, task_spaces(*spaces)).warnings:
                typer.echo(f"mnm: {warning}", err=True)
    except ValueError as error:
        raise UserError(first_line(error)) from error
    return config.environment(observation_space=spaces[0], action_space=spaces[1])


class ReturnStopper(tune.Stopper):
    """Stops at a number of real steps, or once two evaluations in a row meet a return.

    Args:
        steps: real environment steps.
        stop_return: mean return to meet; None: never.
        offline_updates: to be made before the first step.
    """

    def __init__(self, steps: int, stop_return: float | None, offline_updates: int = 0) -> None:
        self.steps = steps
        self.stop_return = stop_return
        self.offline_updates = offline_updates
        self._met = 0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether to stop after this result; every iteration brings one evaluation."""
        achieved = result["evaluation"]["env_runners"]["episode_return_mean"]
        met = self.stop_return is not None and achieved >= self.stop_return
        self._met = self._met + 1 if met else 0
        done = (
            result[STEPS_COLUMN] >= self.steps
            and result["num_offline_updates"] >= self.offline_updates
        )
        return self._met >= EVALUATIONS_TO_STOP or done

    def stop_all(self) -> bool:
        """Never stops other trials."""
        return False


def run(
    config: MnMConfig,
    folder: Path,
    steps: int,
    stop_return: float | None,
    callbacks: list[tune.Callback],
) -> dict[str, Any]:
    """Runs one trial in `folder` and returns its summary.

    Raises:
        UserError: the environment or the learner refused the data, and the last checkpoint stays;
            or the run was stopped before it had one.
    """
    started = time.monotonic()
    # What a trial raises is reported below, in one sentence or whole; Tune's log would repeat it.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    settings, interval = config.settings(), config.min_sample_timesteps_per_iteration
    # Offline updates come in iterations of as many as between real steps.
    ratio = settings.updates_to_data_ratio or 1.0
    iterations = int((steps + config.offline_updates / ratio) // interval)
    tuner = tune.Tuner(
        MnM,
        param_space=config,
        tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: TRIAL_FOLDER),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            stop=ReturnStopper(steps, stop_return, config.offline_updates),
            callbacks=callbacks,
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=2,
                checkpoint_frequency=max(1, iterations // CHECKPOINTS),
                checkpoint_at_end=True,
            ),
            verbose=0,
        ),
    )
    result = tuner.fit()[0]
    checkpoint = None
    if result.checkpoint is not None:
        checkpoint = keep_checkpoint(folder, Path(result.checkpoint.path))
    if result.error is not None:
        cause = root_cause(result.error)
        if not (folder / "progress.csv").is_file():
            shutil.rmtree(folder)  # nothing came of it: leave nothing half-written
        if isinstance(cause, ValueError):
            raise UserError(first_line(cause)) from result.error
        raise result.error
    if checkpoint is None:
        raise UserError(
            "The run was stopped before its first evaluation: there is nothing to evaluate."
        )
    evaluation = evaluate_policy(checkpoint, FINAL_EPISODES, FINAL_SEED + (config.seed or 0))
    metrics = result.metrics
    summary = {
        "env": config.env,
        "algo": settings.algo,
        "seed": config.seed,
        "env_steps": int(metrics[STEPS_COLUMN]),
        "updates": int(metrics["num_updates_lifetime"]),
        "synthetic_transitions": int(metrics["num_synthetic_transitions_lifetime"]),
        "offline_transitions": int(metrics["num_offline_transitions"]),
        "offline_updates": int(metrics["num_offline_updates"]),
        "wall_seconds": round(time.monotonic() - started, 1),
        "evaluation_return_mean": evaluation.return_mean,
        "evaluation_return_std": evaluation.return_std,
        "evaluation_episodes": evaluation.episodes,
        "updates_to_data_ratio": metrics["updates_to_data_ratio"],
        "weight_lag_max": int(metrics["weight_lag_max"]),
    }
    bound = metrics.get("bound", {})
    summary.update({f"bound/{name}": value for name, value in bound.items()})
    write_summary(folder, summary)
    title = f"{summary['algo']} on {config.env}, seed {config.seed}"
    draw_learning_curve(folder, title)
    draw_bound(folder, title)
    return summary


def write_trace(file: Path) -> None:
    """Writes Ray's timeline, of the newest 100,000 calls, with names that say what was done.

    RLlib's managers send every request through the one method `apply` of the actor.
    """
    time.sleep(TRACE_DELAY_S)
    events = ray.timeline()
    for event in events:
        event["name"] = TRACE_NAMES.get(event["cat"], event["name"])
    file.write_text(json.dumps(events))


def read_settings_file(file: Path) -> dict[str, Any]:
    """Settings by name from a YAML or JSON file.

    Raises:
        UserError: the file is missing or holds no table.
    """
    try:
        table = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"The settings file {file} cannot be read: {first_line(error)}.") from error
    if not isinstance(table, dict):
        raise UserError(f"The settings file {file} holds no table of NAME: VALUE.")
    return table


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Settings from NAME=VALUE words, the values read as YAML.

    Raises:
        UserError: a word has no name or no value.
    """
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise UserError(f"--set {assignment} is not valid: write NAME=VALUE.")
        try:
            settings[name] = _as_number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment} is not valid: {first_line(error)}.") from error
    return settings


def _as_number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for text; users mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
