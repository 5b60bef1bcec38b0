"""What `mnm cluster check` finds in a YAML of `ray up`: Ray's schema, then what MnM needs."""

from __future__ import annotations

import contextlib
import copy
import io
import ipaddress
import json
import logging
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import ray.autoscaler
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.pinned_versions import CONSTRAINTS_FILE, PinnedVersions
from rllib_ext.placement import COLLECTOR, LEARNER, ROLLOUT_WORKER
from rllib_ext.ray_session import first_line

TOKEN_FILE = ".ray/auth_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
WORKER_PORTS = range(10002, 20000)  # where Ray puts its workers unless told otherwise
SSH_PORT = 22
EVERYONE = {"0.0.0.0/0", "::/0"}
PORT_OPTIONS = (
    *("port", "object-manager-port", "node-manager-port", "dashboard-port"),
    *("dashboard-agent-listen-port", "metrics-export-port", "ray-client-server-port"),
)
DOCUMENTATION_NETWORKS = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
]
EXAMPLE_IMAGE = "ami-0123456789abcdef0"


@dataclass(frozen=True)
class RayStart:
    """One `ray start` of a list of commands.

    Attributes:
        environment: set before it in the same command.
        options: by name without dashes; a flag has the value "".
    """

    environment: dict[str, str]
    options: dict[str, str]

    @property
    def resources(self) -> set[str]:
        """Names in --resources, whatever shell expressions stand for the numbers."""
        return set(re.findall(r'"([^"]+)"\s*:', self.options.get("resources", "")))


def launcher_problems(config: dict[str, Any], pins: PinnedVersions) -> Iterator[str]:
    """One line for each thing that is wrong; Ray's own complaints end the search.

    Args:
        config: the file's content.
        pins: the versions that the project is tested with.
    """
    problems = list(_schema_problems(config))
    if not problems:
        try:
            full = _prepared(config)
        except Exception as error:  # whatever Ray raises for what its schema does not see
            problems = [f"Ray refuses it: {first_line(error)}"]
    if problems:
        yield from problems
        return
    head = ray_start(full["head_start_ray_commands"])
    worker = ray_start(full["worker_start_ray_commands"])
    if head is None or "head" not in head.options:
        yield "head_start_ray_commands: there is no `ray start --head`"
        return
    if worker is None:
        yield "worker_start_ray_commands: there is no `ray start`"
        return
    local = full["provider"]["type"] == "local"
    yield from _token_problems(full, head, worker)
    yield from _dashboard_problems(head)
    yield from _port_problems(full, head, worker)
    yield from _local_problems(full, head, worker) if local else _type_problems(full)
    yield from _version_problems(full, pins)
    if not full["idle_timeout_minutes"] > 0:
        yield "idle_timeout_minutes: with 0 workers go as soon as they come; use a minute or more"


def launcher_notes(config: dict[str, Any]) -> Iterator[str]:
    """One line for each value that is still the file's example, and each file that is not there."""
    for local in config.get("file_mounts", {}).values():
        if not Path(local).expanduser().exists():
            yield f"file_mounts: {local} is not there, seen from this folder"
    provider = config.get("provider", {})
    for address in [provider.get("head_ip"), *provider.get("worker_ips", [])]:
        if address and _is_example(address):
            yield f"provider: {address} is an example address; fill in a machine of yours"
    types = config.get("available_node_types", {})
    for name, node_type in types.items():
        if node_type["node_config"].get("ImageId") == EXAMPLE_IMAGE:
            yield f"available_node_types.{name}: ImageId is an example; name one of your region"


def ray_start(commands: list[str]) -> RayStart | None:
    """The last `ray start` in these shell commands, None without one."""
    found = None
    for command in commands:
        exported: dict[str, str] = {}
        for part in re.split(r";|&&|\|\||\n", command):
            try:
                words = shlex.split(part)
            except ValueError:
                continue  # the shell will say so
            is_export = words[:1] == ["export"]
            words = words[is_export:]
            environment = dict(exported)
            while words and re.match(r"[A-Za-z_]\w*=", words[0]):
                name, environment[name] = words.pop(0).split("=", 1)
            if is_export:
                exported = environment
            elif len(words) > 1 and Path(words[0]).name == "ray" and words[1] == "start":
                found = RayStart(environment, _options(words[2:]))
    return found


def _options(words: list[str]) -> dict[str, str]:
    """`--name=value`, `--name value` and flags."""
    options: dict[str, str] = {}
    name = None
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value
        elif name is not None:
            options[name] = word
    return options


def _schema_problems(config: dict[str, Any]) -> Iterator[str]:
    """What Ray's own JSON schema refuses."""
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        place = ".".join(map(str, error.absolute_path))
        yield f"{place}: {error.message}" if place else error.message


def _prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The config with Ray's defaults, checked by Ray; what Ray prints about it is not shown."""
    silent = io.StringIO()
    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        full: dict[str, Any] = prepare_config(copy.deepcopy(config))
        validate_config(full)
    return full


def _token_problems(full: dict[str, Any], head: RayStart, worker: RayStart) -> Iterator[str]:
    if not any(remote.endswith(TOKEN_FILE) for remote in full["file_mounts"]):
        yield f"file_mounts: no token reaches the nodes; add ~/{TOKEN_FILE}: ~/{TOKEN_FILE}"
    for place, start in (("head", head), ("worker", worker)):
        if start.environment.get("RAY_AUTH_MODE") != "token":
            yield f"{place}_start_ray_commands: `ray start` runs without RAY_AUTH_MODE=token"
    if re.search(r"RAY_AUTH_TOKEN=", json.dumps(full)):
        yield f"RAY_AUTH_TOKEN= shows a token in commands and logs: use the file ~/{TOKEN_FILE}"


def _dashboard_problems(head: RayStart) -> Iterator[str]:
    host = head.options.get("dashboard-host", LOOPBACK[0])
    if host not in LOOPBACK:
        yield (
            f"head_start_ray_commands: --dashboard-host={host} shows the job API to the network; "
            "use 127.0.0.1 and `ray dashboard`"
        )


def _port_problems(full: dict[str, Any], head: RayStart, worker: RayStart) -> Iterator[str]:
    for place, start in (("head", head), ("worker", worker)):
        taken: dict[int, str] = {}
        for name in PORT_OPTIONS:
            text = start.options.get(name)
            if text is None:
                continue
            where = f"{place}_start_ray_commands: --{name}={text}"
            if not text.isdigit() or not 0 < int(text) < 65536:
                yield f"{where} is no port; use 1 to 65535"
                continue
            port = int(text)
            if port in taken:
                yield f"{where} is --{taken[port]} too; each needs a port of its own"
            elif port in WORKER_PORTS and "min-worker-port" not in start.options:
                yield f"{where} lies among the ports of Ray's workers, 10002 to 19999"
            taken[port] = name
    head_port = head.options.get("port", "6379")
    address = worker.options.get("address", "")
    if address.rpartition(":")[2] != head_port:
        yield (
            f"worker_start_ray_commands: --address={address} is not the head's "
            f"--port={head_port}; use $RAY_HEAD_IP:{head_port}"
        )
    for rule in full["provider"].get("security_group", {}).get("IpPermissions", []):
        if not isinstance(rule, dict):
            yield f"provider.security_group: {rule} is no rule of IpPermissions"
            continue
        blocks = [*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", [])]
        everyone = any(EVERYONE.intersection(block.values()) for block in blocks)
        ports = (rule.get("FromPort"), rule.get("ToPort"))
        if everyone and ports != (SSH_PORT, SSH_PORT):
            yield f"provider.security_group: ports {ports[0]} to {ports[1]} are open to everyone"


def _type_problems(full: dict[str, Any]) -> Iterator[str]:
    """Of node types that a provider makes: GPU, custom resources, counts."""
    types, head = full["available_node_types"], full["head_node_type"]
    for name, node_type in types.items():
        least, most = node_type["min_workers"], node_type["max_workers"]
        if least > most:
            yield f"available_node_types.{name}: min_workers {least} is above max_workers {most}"
    if full["max_workers"] < 1:
        yield "max_workers: with 0 there is no node for collectors"
    reachable = {
        name: node_type["resources"]
        for name, node_type in types.items()
        if name == head or min(node_type["max_workers"], full["max_workers"]) > 0
    }
    learners = {name for name, has in reachable.items() if has.get(LEARNER)}
    if not learners:
        yield f"available_node_types: no node has the resource '{LEARNER}'"
    for name in sorted(learners):
        if not reachable[name].get("GPU"):
            yield f"available_node_types.{name}: the learner's node has no GPU in its resources"
    if not any(has.get(COLLECTOR) and not has.get("GPU") for has in reachable.values()):
        yield f"available_node_types: no CPU node has the resource '{COLLECTOR}'"
    if not any(has.get(ROLLOUT_WORKER) for has in reachable.values()):
        yield f"available_node_types: no node has the resource '{ROLLOUT_WORKER}'"


def _local_problems(full: dict[str, Any], head: RayStart, worker: RayStart) -> Iterator[str]:
    """Of machines that are there: addresses, GPU, custom resources."""
    provider = full["provider"]
    workers = provider.get("worker_ips", [])
    if not workers and "coordinator_address" not in provider:
        yield "provider.worker_ips: there is no worker; name one machine or more"
    for address in sorted({str(address) for address in workers}):
        if workers.count(address) > 1:
            yield f"provider.worker_ips: {address} stands there twice"
        if address == provider.get("head_ip"):
            yield f"provider.worker_ips: {address} is the head already"
    if head.environment.get("RAY_enable_autoscaler_v2") != "0":
        yield (
            "head_start_ray_commands: the newer autoscaler counts the head as a worker and starts "
            "one too few; set RAY_enable_autoscaler_v2=0 before `ray start`"
        )
    for place, start in (("head", head), ("worker", worker)):
        if re.search(r"\bnproc\b(?! --all)", start.options.get("resources", "")):
            yield (
                f"{place}_start_ray_commands: nproc says 1, as `ray up` sets OMP_NUM_THREADS; "
                "use nproc --all"
            )
        if LEARNER in start.resources and start.options.get("num-gpus", "0") == "0":
            yield f"{place}_start_ray_commands: the learner's node has no GPU; add --num-gpus=1"
    if LEARNER not in head.resources | worker.resources:
        yield f"head_start_ray_commands: no node has the resource '{LEARNER}' in --resources"
    for role in (COLLECTOR, ROLLOUT_WORKER):
        if role not in head.resources | worker.resources:
            yield f"worker_start_ray_commands: no node has the resource '{role}' in --resources"


def _version_problems(full: dict[str, Any], pins: PinnedVersions) -> Iterator[str]:
    # Ray has put setup_commands before those of head and workers.
    for place in ("head_setup_commands", "worker_setup_commands"):
        commands = full[place]
        for command in commands:
            for mismatch in pins.mismatches(command):
                yield f"{place}: {mismatch} of {pins.source}"
        if not any(
            "pip install" in command
            and re.search(rf"(-c|--constraint)[ =]\S*{CONSTRAINTS_FILE}", command)
            for command in commands
        ):
            yield f"{place}: nothing is installed with -c {CONSTRAINTS_FILE}"
    if not any(remote.endswith(CONSTRAINTS_FILE) for remote in full["file_mounts"]):
        yield f"file_mounts: {CONSTRAINTS_FILE} does not reach the nodes"
    docker = full.get("docker", {})
    for name in ("image", "head_image", "worker_image"):
        other = pins.image_mismatch(docker.get(name) or "")
        if other:
            yield f"docker.{name}: {other} of {pins.source}"


def _is_example(address: str) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in DOCUMENTATION_NETWORKS)
    except ValueError:  # a host's name
        return False
