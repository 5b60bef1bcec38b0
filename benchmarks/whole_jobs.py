"""Whole jobs of `mnm train`: seconds from the command to its end, Ray's start included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.algorithms import part_rows, steps_per_second
from benchmarks.live import Actors, Live, live_config
from benchmarks.local_ray import local_ray
from benchmarks.measure import REPEATS, Row, summarise
from rllib_ext.run_folder import SUMMARY_FILE
from rllib_ext.tuned import tuned_settings

ENV = "InvertedPendulum-v5"
ROOT = Path(__file__).resolve().parent.parent
RETURN, MOST_STEPS = 950, 10_000
FITS, BLOCKS = 3, 8  # fits of a block, repeats


@dataclass(frozen=True)
class Job:
    """One finished command.

    Attributes:
        seconds: from its start to its end.
        summary: its `summary.json`.
    """

    seconds: float
    summary: dict[str, Any]


def train(*arguments: str) -> Job:
    """Runs `mnm train` on a Ray of its own and a folder that goes afterwards.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        environment.pop("RAY_ADDRESS", None)
        start = time.perf_counter()
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "cluster.cli", "train", f"--env={ENV}"),
                *arguments,
                f"--output={output}",
            ],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.perf_counter() - start
        if finished.returncode != 0:
            raise RuntimeError(f"mnm train {' '.join(arguments)} failed:\n{finished.stdout}")
        return Job(seconds, json.loads((output / SUMMARY_FILE).read_text()))


def mbpo_row(quick: bool) -> Row:
    """MBPO with the settings tuned for the task, as many learning steps as random ones."""
    random_steps = 50 if quick else 500
    actors = Actors() if quick else Actors(collectors=2, rollout_workers=1, learner=True)
    command = [
        "--algo=mbpo",
        f"--num-env-runners={actors.collectors}",
        f"--num-rollout-workers={actors.rollout_workers}",
        f"--steps={2 * random_steps}",
        f"--set=num_random_steps={random_steps}",
        "--set=updates_to_data_ratio=10",
    ]
    jobs = [train(*command, f"--seed={seed}") for seed in range(1 if quick else REPEATS)]
    return summarise(
        f"whole_jobs: mbpo, {ENV}, tuned, {random_steps} random and {random_steps} learning steps, "
        f"10 updates per step, {actors}",
        "s (less is better)",
        [job.seconds for job in jobs],
    )


def return_rows() -> list[Row]:
    """Seconds and steps until mnm, tuned, has two evaluations in a row of `RETURN` or more."""
    jobs = [
        train(
            "--algo=mnm",
            f"--seed={seed}",
            f"--steps={MOST_STEPS}",
            f"--stop-return={RETURN}",
        )
        for seed in range(REPEATS)
    ]
    reached = [job for job in jobs if job.summary["env_steps"] < MOST_STEPS]
    name = f"whole_jobs: mnm, {ENV}, tuned, to two evaluations of {RETURN}"
    rows = [
        summarise(f"{name}, seeds of {len(jobs)} that got there", "seeds", [float(len(reached))])
    ]
    if reached:
        rows += [
            summarise(name, "s (less is better)", [job.seconds for job in reached]),
            summarise(
                f"{name}, real steps",
                "steps (less is better)",
                [float(job.summary["env_steps"]) for job in reached],
            ),
        ]
    return rows


def speed_rows() -> list[Row]:
    """Real steps a second of mnm, tuned, in the middle of a run, and its learner's parts."""
    settings = {**tuned_settings(ENV), "algo": "mnm"}
    actors = Actors(collectors=2, rollout_workers=1, learner=True)
    # Blocks begin and end half-way between two fits, when no rollout worker is at work.
    interval = settings["dynamics_fit_interval"]
    half = interval // 2
    assert settings["rollout_interval"] == interval == 2 * half
    with local_ray(num_cpus=4):
        live = Live(live_config(ENV, actors, iteration=half, **settings))
        live.train_steps(settings["num_random_steps"] + half)
        windows = [live.train_steps(FITS * interval) for _ in range(BLOCKS)]
        live.stop()
    name = f"whole_jobs: mnm, {ENV}, tuned, {actors}"
    return [summarise(name, "real steps/s", steps_per_second(windows)), *part_rows(name, windows)]


def rows(quick: bool) -> list[Row]:
    """The published MBPO job; then mnm to a return of 950, and where its learner's time goes."""
    return [mbpo_row(quick), *([] if quick else [*return_rows(), *speed_rows()])]
