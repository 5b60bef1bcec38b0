"""The whole driver is killed, and its Ray with it: another process goes on with the experiment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from rllib_ext.examples import resume_tuner
from tests.rllib_ext.small_checkpoints import REPLAY
from tests.rllib_ext.small_configs import LINE, TINY

STEPS = "num_env_steps_sampled_lifetime"
ROOT = Path(__file__).resolve().parents[2]
SET = [f"{name}={list(v) if isinstance(v, tuple) else v}" for name, v in TINY.items()]
INTERVAL = 40
KILL_TIMEOUT_S = 120.0


def test_a_killed_experiment_goes_on_from_its_last_checkpoints(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    steps = 1200
    killed = run_until_checkpoints_then_kill(
        tmp_path, env=LINE, steps=steps, interval=INTERVAL, seeds=1, set_=SET
    )
    request.getfixturevalue("local_ray")
    before = {path.parent.name: rows(path) for path in killed}
    results = resume_tuner.main(steps=steps, storage=tmp_path)
    assert not results.errors
    assert len(results) == len(before) == 1
    for result in results:
        lines = rows(Path(result.path) / "result.json")
        old = before[Path(result.path).name]
        assert lines[: len(old)] == old
        resumed = lines[len(old) :]
        assert resumed[0]["training_iteration"] > 1, "started anew"
        assert resumed[0]["iterations_since_restore"] == 1
        # The step before the first new one is one that had been made before the kill.
        last = next(
            line
            for line in old
            if line["training_iteration"] == resumed[0]["training_iteration"] - 1
        )
        assert last[STEPS] < resumed[0][STEPS] <= last[STEPS] + 2 * INTERVAL
        assert resumed[-1][STEPS] >= steps
        assert resumed[-1]["updates_to_data_ratio"] == pytest.approx(1.0, abs=0.05)
        manifest = json.loads((Path(result.checkpoint.path) / REPLAY / "manifest.json").read_text())
        trained = result.metrics["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"]
        assert manifest["real"]["total"] == trained
        assert trained >= steps


def rows(file: Path) -> list[dict[str, Any]]:
    """The results in a trial's `result.json`, without a line that was cut by the kill."""
    lines = []
    for line in file.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def run_until_checkpoints_then_kill(storage: Path, **options: Any) -> list[Path]:
    """Runs `resume_tuner` in a process with its own Ray, and kills it between two results.

    Returns:
        The `result.json` of each trial.
    """
    code = (
        "import ray; ray.init(address='local', num_cpus=2, include_dashboard=False, "
        "object_store_memory=100_000_000, _node_ip_address='127.0.0.1'); "
        "from pathlib import Path; from rllib_ext.examples import resume_tuner; "
        f"resume_tuner.main(storage=Path({str(storage)!r}), **{options!r})"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    log = storage / "killed.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment,
            stdout=output,
            stderr=output,
            cwd=storage,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while True:
            files = list(storage.glob(f"{resume_tuner.NAME}/MnM*/result.json"))
            if files and all(len(rows(file)) >= 4 for file in files):
                break
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        for orphan in alive:
            orphan.kill()
    return files
