"""A cluster of three hosts from cluster/local.yaml: a job, a dead host, a cut cable, the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
import torch

from distributed.collector_group import REQUESTS_PER_COLLECTOR
from rllib_ext.checkpoint_files import AGENT_FILE, LEARNER_FOLDER
from tests.faults.gates import check_account
from tests.hosts.lab import DISK, SHARED, Desk, Host, processes_in, wait_for
from tests.hosts.ray_cluster import API, PAUSE_S, Cluster
from tests.hosts.tasks import ENOUGH, RETURN_OF_ENOUGH
from tests.rllib_ext.small_configs import TINY

pytestmark = pytest.mark.timeout(1800)

RATIO = 0.5
COLLECTORS = 3
STILL_OPEN = COLLECTORS * REQUESTS_PER_COLLECTOR * 10  # real steps asked for and not made yet
COLLECTOR, ROLLOUT = "MnMEnvRunner", "RolloutWorker"
LEARNER = "create_executable_class.<locals>._WrappedExecutable"
JOB, RUN = "survivor", SHARED / "run"
TRAIN = [
    *("--env", "tests.hosts.tasks:UntilEnough-v0", "--steps", "1000000"),
    *("--stop-return", str(RETURN_OF_ENOUGH), "--config", str(SHARED / "tiny.json")),
    *("--num-env-runners", str(COLLECTORS), "--num-rollout-workers", "1", "--log-transitions"),
    *("--evaluation-interval", "100", "--placement", "roles", "--output", str(RUN)),
]
WRONG = {"RAY_AUTH_TOKEN": "0" * 64, "RAY_AUTH_MODE": "token"}
NONE = {"HOME": str(DISK / "nowhere")}


@pytest.fixture(scope="module")
def cluster(desk: Desk) -> Iterator[Cluster]:
    """The cluster that `ray up` has started, all of whose nodes have joined, with the tunnel."""
    made = Cluster(desk, desk.add_hosts([10, 11, 12]))
    made.up()
    with made.tunnel():
        made.wait_for_nodes(made.hosts, "all nodes have joined")
        yield made


@pytest.mark.parametrize(
    ("extra", "answer", "sentence"),
    [
        (NONE, "Unauthorized: Missing authentication token", "asks for a token and none was found"),
        (WRONG, "Forbidden: Invalid authentication token", "refuses the token of RAY_AUTH_TOKEN"),
    ],
    ids=["without", "wrong"],
)
def test_a_submission_without_the_token_is_refused(
    cluster: Cluster, extra: dict[str, str], answer: str, sentence: str
) -> None:
    job = cluster.desk.run("ray", "job", "submit", "--address", API, "--", "true", extra=extra)
    assert job.returncode == 1
    assert answer in job.stdout + job.stderr
    mnm = cluster.desk.run("mnm", "submit", "--address", API, "--", "train", extra=extra)
    assert mnm.returncode == 2
    (line,) = mnm.stderr.splitlines()
    assert line.startswith(f"mnm: {API} {sentence}")
    log = cluster.head.check("cat", "/tmp/ray/session_latest/logs/dashboard.log")
    assert f"HTTP/1.1' {401 if extra is NONE else 403}" in log
    assert cluster.ask("api/jobs/") == []


def test_mnm_submit_runs_a_job_and_follows_it(cluster: Cluster) -> None:
    words = ["train", "--env", "InvertedPendulum-v5", "--dry-run"]
    done = cluster.desk.run("mnm", "submit", "--address", API, "--", *words)
    assert done.returncode == 0, done.stderr
    assert "on 3 nodes" in done.stdout
    assert "It fits." in done.stdout


def test_a_job_outlives_a_dead_host_and_a_cut_cable(cluster: Cluster) -> None:
    desk = cluster.desk
    settings = {**TINY, "replay_capacity": 100_000, "updates_to_data_ratio": RATIO}
    desk.path(SHARED / "tiny.json").write_text(json.dumps(settings))
    environment = json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}})
    options = ["--address", API, "--working-dir", ".", "--runtime-env-json", environment]
    words = ["--no-wait", "--submission-id", JOB, "--", "python", "-m", "cluster.train", *TRAIN]
    cluster.ray("job", "submit", *options, *words)
    wait_until_it_runs(cluster, lambda found: found["steps_returned"] >= 200)

    joined, actors = cluster.nodes(), cluster.actors()
    assert set(actors[cluster.head.address]) >= {"MnM", LEARNER}
    assert COLLECTOR not in actors[cluster.head.address]
    # Two actors on each worker: three collectors and a rollout worker.
    spared, victim = sorted(cluster.workers, key=lambda host: ROLLOUT not in actors[host.address])
    assert sorted(actors[spared.address]) == [COLLECTOR, ROLLOUT]
    assert actors[victim.address] == [COLLECTOR, COLLECTOR]

    victim.cut_dead()
    cluster.wait_for_nodes([cluster.head, spared], "the dead host is noticed")
    alone = results(desk)[-1]["steps_returned"]
    wait_until_it_runs(cluster, lambda found: found["steps_returned"] > alone)
    victim.boot()
    again = cluster.wait_for_nodes(cluster.hosts, "the host has joined again")
    assert set(again) != set(joined)
    came_back = wait_until_it_runs(cluster, is_whole)["worker_restarts"]
    assert came_back >= 1

    spared.pull_cable()
    cluster.wait_for_nodes([cluster.head, victim], "the cut cable is noticed")
    spared.plug_cable()
    assert set(cluster.wait_for_nodes(cluster.hosts, "it has joined again")) != set(again)
    wait_until_it_runs(
        cluster, lambda found: is_whole(found) and found["worker_restarts"] > came_back
    )

    desk.path(ENOUGH).touch()
    status = wait_for(lambda: ended(cluster), "the job ends", PAUSE_S)
    assert status == "SUCCEEDED", cluster.log(JOB)[-3000:]
    check_books(desk)


def results(desk: Desk) -> list[dict[str, Any]]:
    """The run's results so far."""
    file = desk.path(RUN / "result.json")
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def wait_until_it_runs(cluster: Cluster, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Waits for a new result that meets a condition; the job must go on meanwhile."""
    before = len(results(cluster.desk))

    def newest() -> dict[str, Any] | None:
        assert ended(cluster) is None, cluster.log(JOB)[-3000:]
        return next((found for found in results(cluster.desk)[before:] if met(found)), None)

    return wait_for(newest, "the run brings that result", PAUSE_S)


def is_whole(found: dict[str, Any]) -> bool:
    """Whether all actors are at work."""
    return (found["num_healthy_collectors"], found["num_healthy_rollout_workers"]) == (
        COLLECTORS,
        1,
    )


def ended(cluster: Cluster) -> str | None:
    """The status of the job once it is over."""
    status = cluster.job(JOB)["status"]
    return status if status in ("SUCCEEDED", "FAILED", "STOPPED") else None


def check_books(desk: Desk) -> None:
    """Every real step is logged and trained on once, and the updates are as many as they must be.

    What was asked of collectors came back, was lost, or was still asked for.
    """
    log = pyarrow.dataset.dataset(desk.path(RUN / "transitions"), partitioning="hive").to_table()
    steps = log.select(["episode_ids", "steps"]).to_pandas()
    file = desk.path(RUN / "checkpoint" / LEARNER_FOLDER / AGENT_FILE)
    counters = torch.load(file, weights_only=True)["counters"]
    found = {**counters, "rows": len(steps), "twice": int(steps.duplicated().sum())}
    check_account(found, TINY["num_random_steps"], RATIO)
    lines = results(desk)
    for line in lines:
        still_open = line["steps_requested"] - line["steps_returned"] - line["steps_lost"]
        assert 0 <= still_open <= STILL_OPEN
    assert lines[-1]["steps_lost"] > 0
    assert lines[-1]["worker_failures"] > 0
    assert [line["training_iteration"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["updates_to_data_ratio"] == pytest.approx(RATIO, abs=1e-3)
    assert found["rows"] >= json.loads(desk.path(RUN / "summary.json").read_text())["env_steps"]


def test_no_file_and_no_process_shows_the_token(cluster: Cluster) -> None:
    token = cluster.desk.path(cluster.token_file).read_bytes().strip()
    assert len(token) >= 32
    commands = [
        process / part
        for process in processes_in(cluster.desk.seen)
        for part in ("cmdline", "environ")
    ]
    seen = 0
    for file in [*written_files(cluster), *commands]:
        with suppress(OSError):  # it has gone just now
            assert token not in file.read_bytes(), file
            seen += 1
    assert seen > 100


def test_ray_down_and_ray_stop_end_ray_on_every_host(cluster: Cluster) -> None:
    assert "No nodes remaining" in cluster.down()
    wait_for(lambda: not ray_processes([cluster.head]), "Ray has ended on the head", PAUSE_S)
    for worker in cluster.workers:  # which `ray down` leaves alone
        assert cluster.desk.login(worker.address, "~/mnm-venv/bin/ray stop").returncode == 0
    wait_for(lambda: not ray_processes(cluster.workers), "Ray has ended on the workers", PAUSE_S)


def written_files(cluster: Cluster) -> list[Path]:
    """What the desk, the hosts and the job have written: logs, results; not the token itself."""
    disks = [DISK / "hosts" / place.name for place in (cluster.desk, *cluster.hosts)]
    folders = [SHARED, *(disk / name for disk in disks for name in ("home", "tmp/ray"))]
    return [
        file
        for folder in folders
        for file in cluster.desk.path(folder).rglob("*")
        if file.is_file() and not file.is_symlink() and file.name != "auth_token"
    ]


def ray_processes(hosts: list[Host]) -> list[Path]:
    """Of the hosts' own: no sshd and no shell."""
    found = []
    for process in processes_in(set().union(*(host.namespaces for host in hosts))):
        with suppress(OSError):
            if b"ray" in (process / "cmdline").read_bytes():
                found.append(process)
    return found
