"""Whole jobs of `mnm train`: seconds from the command to its end, Ray's start included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.algorithms import part_rows, steps_per_second
from benchmarks.live import Live, TimedMnM
from benchmarks.local_ray import local_ray
from benchmarks.measure import REPEATS, Row, alternate, summarise
from rllib_ext import MnMConfig
from rllib_ext.run_folder import SUMMARY_FILE
from rllib_ext.tuned import tuned_settings

ENV = "InvertedPendulum-v5"
ROOT = Path(__file__).resolve().parent.parent
RETURN, MOST_STEPS = 950, 10_000
BLOCK = 250  # real steps


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
    settings = [
        f"--steps={2 * random_steps}",
        f"--set=num_random_steps={random_steps}",
        "--set=updates_to_data_ratio=10",
    ]
    seeds = range(1 if quick else REPEATS)
    jobs = [train("--algo=mbpo", f"--seed={seed}", *settings) for seed in seeds]
    return summarise(
        f"whole_jobs: mbpo, {ENV}, tuned, {random_steps} random and {random_steps} learning steps, "
        "10 updates per step",
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


def speed_rows(quick: bool) -> list[Row]:
    """Real steps a second of mnm, tuned, in the middle of a run, and the learner's parts."""
    settings = tuned_settings(ENV)
    random_steps = 50 if quick else settings["num_random_steps"]
    with local_ray(num_cpus=5):
        live = Live(
            MnMConfig(TimedMnM)
            .environment(ENV)
            .env_runners(num_env_runners=2)
            .learners(num_learners=1)
            .training(
                **{
                    **settings,
                    "algo": "mnm",
                    "num_rollout_workers": 1,
                    "num_random_steps": random_steps,
                }
            )
            .reporting(min_sample_timesteps_per_iteration=20 if quick else BLOCK // 2)
            .debugging(seed=0)
        )
        live.train_steps(random_steps + BLOCK // 2)
        block = 40 if quick else BLOCK
        windows = alternate({"ours": partial(live.train_steps, block)}, 2 if quick else 8)["ours"]
        live.stop()
    name = f"whole_jobs: mnm, {ENV}, tuned, 2 collectors, 1 rollout worker"
    return [
        summarise(name, "real steps/s", steps_per_second(windows)),
        *part_rows(name, windows),
    ]


def rows(quick: bool) -> list[Row]:
    """The published MBPO job, mnm to a return of 950, and where its learner's time goes."""
    return [mbpo_row(quick), *([] if quick else return_rows()), *speed_rows(quick)]
