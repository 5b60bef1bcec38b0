"""Tests of `mnm cluster check`: the files here pass, and each thing wrong in them gets its line."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from cluster import pinned_versions
from cluster.kubernetes_checks import kubernetes_problems
from cluster.launcher_checks import launcher_problems, ray_start
from cluster.pinned_versions import PinnedVersions
from tests.cluster.commands import ROOT, Mnm, assert_one_sentence

AWS, LOCAL, KUBERAY = "cluster.yaml", "local.yaml", "kuberay/rayjob.yaml"
FILES = [AWS, LOCAL, KUBERAY]
Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("name", FILES)
def test_the_files_here_pass(name: str, mnm: Mnm) -> None:
    file = ROOT / "cluster" / name
    done = mnm("cluster", "check", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == f"{file}: nothing is wrong"
    assert "example" in done.out  # addresses, images: to be filled in


def test_a_file_that_is_to_be_copied_and_is_not_there_is_noted(
    mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    missing = "note: file_mounts: ~/.ray/auth_token is not there"
    assert missing in mnm("cluster", "check", ROOT / "cluster" / LOCAL).out
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert "file_mounts" not in mnm("cluster", "check", ROOT / "cluster" / LOCAL).out


def test_the_images_user_may_write_to_the_volume_of_every_pod() -> None:
    text = (ROOT / "cluster" / KUBERAY).read_text()
    cluster = yaml.safe_load(text)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["securityContext"] == {"fsGroup": 100}
    assert "uid 1000 and gid 100" in text.partition("apiVersion")[0]


@pytest.mark.parametrize("name", FILES)
def test_the_first_line_says_what_a_file_is_for(name: str) -> None:
    first = (ROOT / "cluster" / name).read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40


def replace(key: str, old: str, new: str) -> Change:
    """In every command of the list `key`."""

    def change(config: dict[str, Any]) -> None:
        before = config[key]
        config[key] = [command.replace(old, new) for command in before]
        assert config[key] != before

    return change


def cluster(config: dict[str, Any]) -> dict[str, Any]:
    return config["spec"]["rayClusterSpec"]


def pod(config: dict[str, Any], group: int) -> dict[str, Any]:
    """The Ray container of a worker group."""
    return cluster(config)["workerGroupSpecs"][group]["template"]["spec"]["containers"][0]


HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"
WRONG: dict[str, tuple[str, Change, str]] = {
    "no GPU": (
        AWS,
        lambda c: c["available_node_types"]["learner"]["resources"].pop("GPU"),
        r"available_node_types.learner: the learner's node has no GPU",
    ),
    "no node for the learner": (
        AWS,
        lambda c: c["available_node_types"]["learner"]["resources"].pop("learner"),
        r"no node has the resource 'learner'",
    ),
    "no node for collectors": (
        AWS,
        lambda c: c["available_node_types"]["collectors"].update(max_workers=0),
        r"no CPU node has the resource 'collector'",
    ),
    "no node for rollout workers": (
        AWS,
        lambda c: c["available_node_types"]["rollout_workers"].update(max_workers=0),
        r"no node has the resource 'rollout_worker'",
    ),
    "no node for rollout workers, local": (
        LOCAL,
        replace(WORKER, "rollout_worker", "other"),
        r"no node has the resource 'rollout_worker'",
    ),
    "no pod for rollout workers": (
        KUBERAY,
        lambda c: cluster(c)["workerGroupSpecs"][1]["rayStartParams"].update(
            resources='"{\\"collector\\": 8}"'
        ),
        r"no group has the resource 'rollout_worker'",
    ),
    "no GPU, local": (LOCAL, replace(HEAD, "--num-gpus=1", ""), r"learner's node has no GPU"),
    "no token": (
        AWS,
        lambda c: c["file_mounts"].pop("~/.ray/auth_token"),
        r"file_mounts: no token reaches the nodes",
    ),
    "one collector a node": (
        LOCAL,
        replace(WORKER, "nproc --all", "nproc"),
        r"worker_start_ray_commands: nproc says 1, .*; use nproc --all",
    ),
    "one worker too few": (
        LOCAL,
        replace(HEAD, "RAY_enable_autoscaler_v2=0 ", ""),
        r"head_start_ray_commands: the newer autoscaler .* RAY_enable_autoscaler_v2=0",
    ),
    "no token, local": (
        LOCAL,
        lambda c: c["file_mounts"].pop("~/.ray/auth_token"),
        r"file_mounts: no token reaches the nodes",
    ),
    "a worker without the mode": (
        LOCAL,
        replace(WORKER, "RAY_AUTH_MODE=token", ""),
        r"worker_start_ray_commands: .*without RAY_AUTH_MODE=token",
    ),
    "a token in a command": (
        AWS,
        replace(WORKER, "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=secret"),
        r"RAY_AUTH_TOKEN= shows a token",
    ),
    "dashboard": (
        AWS,
        replace(HEAD, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        r"head_start_ray_commands: --dashboard-host=0.0.0.0",
    ),
    "dashboard, in two words": (
        LOCAL,
        replace(HEAD, "--dashboard-host=127.0.0.1", "--dashboard-host 0.0.0.0"),
        r"--dashboard-host=0.0.0.0",
    ),
    "Ray's own start of AWS": (
        AWS,
        lambda c: c.pop(HEAD),
        r"--dashboard-host=0.0.0.0",
    ),
    "another port": (
        LOCAL,
        replace(WORKER, "$RAY_HEAD_IP:6379", "$RAY_HEAD_IP:6380"),
        r"is not the head's --port=6379",
    ),
    "one port twice": (
        AWS,
        replace(HEAD, "--dashboard-port=8265", "--dashboard-port=6379"),
        r"--dashboard-port=6379 is --port too",
    ),
    "a port of the workers": (
        LOCAL,
        replace(HEAD, "--dashboard-port=8265", "--dashboard-port=10500"),
        r"lies among the ports of Ray's workers",
    ),
    "an open port": (
        AWS,
        lambda c: c["provider"].update(
            security_group={
                "GroupName": "mnm",
                "IpPermissions": [
                    {"FromPort": 8265, "ToPort": 8265, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
                ],
            }
        ),
        r"ports 8265 to 8265 are open to everyone",
    ),
    "another version": (
        AWS,
        lambda c: c["setup_commands"].append("pip install 'ray[rllib]==2.9.0'"),
        r"ray==2.9.0 does not match ray==[\d.]+ of constraints.txt",
    ),
    "no constraints": (
        LOCAL,
        replace("setup_commands", "-c ~/mnm/constraints.txt", ""),
        r"nothing is installed with -c constraints.txt",
    ),
    "image of another version": (
        AWS,
        lambda c: c.update(docker={"image": "rayproject/ray:2.9.0-gpu", "container_name": "ray"}),
        r"docker.image: .* does not match ray==",
    ),
    "more at least than at most": (
        AWS,
        lambda c: c["available_node_types"]["collectors"].update(min_workers=5),
        r"available_node_types.collectors: min_workers 5 is above max_workers 4",
    ),
    "more at least than in all": (
        AWS,
        lambda c: (
            c.update(max_workers=2) or c["available_node_types"]["collectors"].update(min_workers=4)
        ),
        r"Ray refuses it: .*max_workers",
    ),
    "no timeout": (AWS, lambda c: c.update(idle_timeout_minutes=0), r"idle_timeout_minutes"),
    "unknown key": (AWS, lambda c: c.update(idle_timeout=5), r"'idle_timeout' was unexpected"),
    "unknown key of a node": (
        AWS,
        lambda c: c["available_node_types"]["collectors"].update(spot=True),
        r"available_node_types.collectors: .*'spot' was unexpected",
    ),
    "unknown provider": (AWS, lambda c: c["provider"].update(type="cumulus"), r"Ray refuses it"),
    "node types, local": (
        LOCAL,
        lambda c: c.update(available_node_types={"a": {"resources": {}, "node_config": {}}}),
        r"Ray refuses it",
    ),
    "a worker twice": (
        LOCAL,
        lambda c: c["provider"].update(worker_ips=["192.0.2.11", "192.0.2.11"]),
        r"192.0.2.11 stands there twice",
    ),
    "the head as worker": (
        LOCAL,
        lambda c: c["provider"].update(worker_ips=["192.0.2.10"]),
        r"192.0.2.10 is the head already",
    ),
    "no GPU, Kubernetes": (
        KUBERAY,
        lambda c: pod(c, 0)["resources"]["limits"].pop("nvidia.com/gpu"),
        r"has no limit nvidia.com/gpu",
    ),
    "no token, Kubernetes": (
        KUBERAY,
        lambda c: cluster(c).pop("authOptions"),
        r"authOptions: there is no token",
    ),
    "the token itself, Kubernetes": (
        KUBERAY,
        lambda c: pod(c, 1).update(env=[{"name": "RAY_AUTH_TOKEN", "value": "secret"}]),
        r"workerGroupSpecs.collectors: the token itself stands in the file",
    ),
    "another version, Kubernetes": (
        KUBERAY,
        lambda c: cluster(c).update(rayVersion="2.9.0"),
        r"rayVersion: 2.9.0 does not match ray==",
    ),
    "image of another version, Kubernetes": (
        KUBERAY,
        lambda c: pod(c, 1).update(image="rayproject/ray:2.9.0"),
        r"workerGroupSpecs.collectors: image rayproject/ray:2.9.0 does not match",
    ),
    "no limit": (
        KUBERAY,
        lambda c: pod(c, 1)["resources"]["limits"].pop("memory"),
        r"workerGroupSpecs.collectors: container ray-worker has no limit of memory",
    ),
    "an open dashboard, Kubernetes": (
        KUBERAY,
        lambda c: cluster(c)["headGroupSpec"].update(serviceType="LoadBalancer"),
        r"the dashboard is open beyond the cluster",
    ),
    "counts, Kubernetes": (
        KUBERAY,
        lambda c: cluster(c)["workerGroupSpecs"][1].update(minReplicas=9),
        r"workerGroupSpecs.collectors: minReplicas 9, replicas 0 and maxReplicas 4",
    ),
    "unknown key of a group": (
        KUBERAY,
        lambda c: cluster(c)["workerGroupSpecs"][1].update(maxReplica=4),
        r"workerGroupSpecs.1.maxReplica: Extra inputs are not permitted",
    ),
    "unknown key of a pod": (
        KUBERAY,
        lambda c: pod(c, 1).update(volumeMount=[]),
        r"workerGroupSpecs.collectors: template.spec.containers.0: .*'volumeMount'",
    ),
    "a number for a text": (
        KUBERAY,
        lambda c: cluster(c)["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        r"rayStartParams.num-cpus: Input should be a valid string",
    ),
    "no autoscaling": (
        KUBERAY,
        lambda c: cluster(c).update(enableInTreeAutoscaling=False),
        r"enableInTreeAutoscaling",
    ),
}


@pytest.mark.parametrize(("name", "change", "line"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_gets_its_line(
    name: str, change: Change, line: str, mnm: Mnm, tmp_path: Path
) -> None:
    config = yaml.safe_load((ROOT / "cluster" / name).read_text())
    change(config)
    file = tmp_path / "changed.yaml"
    file.write_text(yaml.safe_dump(config))
    done = mnm("cluster", "check", file)
    assert done.code == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert all(text.startswith(f"{file}: ") for text in lines)
    assert any(re.search(line, text) for text in lines), done.err
    assert len(lines) <= 3, done.err  # and nothing that is not wrong
    assert "secret" not in done.err.replace("secretName", "")


def places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index below a node, by the way to it."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for key, value in items:
        yield (*place, key)
        yield from places(value, (*place, key))


@pytest.mark.parametrize("name", FILES)
def test_without_a_clone_the_installed_versions_are_those_to_match(
    name: str, mnm: Mnm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned_versions, "DEFAULT_CONSTRAINTS", tmp_path / "constraints.txt")
    pins = PinnedVersions()
    assert pins.ray == ray.__version__
    sentence = f"ray==2.9.0 does not match ray=={ray.__version__}"
    assert list(pins.mismatches(f"pip install ray==2.9.0 yaml=={yaml.__version__}")) == [sentence]
    assert mnm("cluster", "check", str(ROOT / "cluster" / name)).code == 0


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_missing_the_check_ends_in_lines(name: str) -> None:
    whole = yaml.safe_load((ROOT / "cluster" / name).read_text())
    pins = PinnedVersions()
    refused = 0
    for place in places(whole):
        config = copy.deepcopy(whole)
        node = config
        for key in place[:-1]:
            node = node[key]
        del node[place[-1]]
        if place[0] in ("provider", "kind") and len(place) == 1:
            continue  # no cluster file any more
        check = kubernetes_problems([config], pins) if "kind" in config else None
        problems = list(check or launcher_problems(config, pins))
        assert all("\n" not in problem for problem in problems)
        refused += bool(problems)
    assert refused > 10


def test_a_secret_does_not_stand_in_the_file(mnm: Mnm, tmp_path: Path) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mnm-ray-token"},
        "stringData": {"auth_token": "abc123"},
    }
    file = tmp_path / "both.yaml"
    job = (ROOT / "cluster" / KUBERAY).read_text()
    file.write_text(f"{yaml.safe_dump(secret)}---\n{job}")
    done = mnm("cluster", "check", file)
    assert done.code == 1
    assert "kubectl create secret" in done.err
    assert "abc123" not in done.err + done.out


BAD_FILES = {
    "no YAML": ("a: [1,\nb: }", r"line \d+ is no YAML"),
    "empty": ("", "is no cluster file"),
    "a list": ("- a\n- b\n", "is no cluster file"),
    "something else": ("hello: 1\n", "neither a provider nor a kind"),
    "another kind": ("kind: Pod\napiVersion: v1\n", "no RayJob"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_of_another_kind_gets_one_sentence(case: str, mnm: Mnm, tmp_path: Path) -> None:
    content, sentence = BAD_FILES[case]
    file = tmp_path / "file.yaml"
    file.write_text(content)
    done = mnm("cluster", "check", file)
    assert_one_sentence(done)
    assert re.search(sentence, done.err), done.err


def test_a_missing_file_and_missing_constraints_get_one_sentence(mnm: Mnm, tmp_path: Path) -> None:
    assert_one_sentence(mnm("cluster", "check", tmp_path / "none.yaml"))
    done = mnm(
        "cluster", "check", ROOT / "cluster" / AWS, "--constraints", tmp_path / "constraints.txt"
    )
    assert_one_sentence(done)
    assert "--constraints" in done.err


def test_the_image_is_of_the_pinned_ray() -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    first = re.search(
        r"^FROM rayproject/ray:([\d.]+)-", (ROOT / "cluster/Dockerfile").read_text(), re.MULTILINE
    )
    assert pinned
    assert first
    assert first[1] == pinned[1]


@pytest.mark.parametrize(
    ("command", "environment", "options"),
    [
        ("ray start --head --port=1", {}, {"head": "", "port": "1"}),
        ("ulimit -n 9; A=1 ~/x/bin/ray start --port 2", {"A": "1"}, {"port": "2"}),
        ("export B=2 && ray stop && ray start --block", {"B": "2"}, {"block": ""}),
    ],
)
def test_ray_start_is_found_in_a_command(
    command: str, environment: dict[str, str], options: dict[str, str]
) -> None:
    start = ray_start(["ray stop", command])
    assert start is not None
    assert (start.environment, start.options) == (environment, options)
    assert ray_start(["ray stop"]) is None
