"""A Ray cluster on the lab's hosts, started from cluster/local.yaml and asked by its tunnel."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.hosts.lab import DISK, ROOT, Desk, Host, wait_for

SHIPPED = ROOT / "cluster" / "local.yaml"
FILE = DISK / "local.yaml"
API = "http://127.0.0.1:8265"
# A silent host counts as dead after half a minute at most instead of a whole one.
SOONER = "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=4000"
PAUSE_S = 1.0  # between two questions
SMALL = "--num-cpus=2 --object-store-memory=100000000"
ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1])
request.add_header("Authorization", "Bearer " + open(sys.argv[2]).read())
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""


def filled_in(hosts: list[Host]) -> str:
    """The shipped file with these addresses, root as user, small nodes and quick health checks.

    What it installs by pip is there already: the hosts have no way out to the network.
    """
    config = yaml.safe_load(SHIPPED.read_text())
    head, *workers = [host.address for host in hosts]
    config["provider"].update(head_ip=head, worker_ips=workers)
    config["auth"]["ssh_user"] = "root"
    (place,) = (i for i, line in enumerate(config["setup_commands"]) if "-m venv" in line)
    config["setup_commands"][place] = f"ln -sfn {sys.prefix} ~/mnm-venv"
    (place,) = (i for i, line in enumerate(config["setup_commands"]) if "pip install" in line)
    config["setup_commands"][place] = "test -x ~/mnm-venv/bin/ray"
    for role in ("head", "worker"):
        commands = config[f"{role}_start_ray_commands"]
        commands[-1] = f"{commands[-1]} {SMALL}"
    commands = config["head_start_ray_commands"]
    commands[-1] = commands[-1].replace("RAY_AUTH_MODE=token", f"RAY_AUTH_MODE=token {SOONER}")
    assert SOONER in commands[-1]
    return yaml.safe_dump(config, sort_keys=False)


class Cluster:
    """The cluster of a file that names these hosts.

    Args:
        desk: from which it is ordered.
        hosts: the head, then the workers.
    """

    def __init__(self, desk: Desk, hosts: list[Host]) -> None:
        self.desk, self.hosts = desk, hosts
        self.head, *self.workers = hosts
        desk.path(FILE).write_text(filled_in(hosts))
        self.token_file = desk.home / ".ray" / "auth_token"

    def up(self) -> str:
        """Makes a token and starts the cluster, as docs/cluster.md says; what `ray up` printed."""
        self.ray("get-auth-token", "--generate")
        return self.ray("up", "-y", FILE)

    def down(self) -> str:
        """Ends it; what `ray down` printed."""
        return self.ray("down", "-y", FILE)

    def ray(self, *words: object, **how: Any) -> str:
        """A command of Ray on the desk, which has the token; it must succeed."""
        done = self.desk.run("ray", *words, **{"extra": {"RAY_AUTH_MODE": "token"}, **how})
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"ray {words}:\n{said[-4000:]}"
        return said

    @contextmanager
    def tunnel(self) -> Iterator[None]:
        """`ray dashboard` for as long as the block takes: the job API is then at `API`."""
        with self.desk.path(DISK / "tunnel.log").open("w") as log:
            process = self.desk.start("ray", "dashboard", FILE, stdout=log, stderr=log)
        try:
            wait_for(lambda: self.ask("api/version", must=False), "the tunnel is there", PAUSE_S)
            yield
        finally:
            process.kill()
            process.wait()

    def ask(self, path: str, must: bool = True, **query: Any) -> Any:
        """What the head's HTTP API answers; None without an answer that need not be."""
        url = f"{API}/{path}?{urlencode(query)}"
        done = self.desk.run(sys.executable, "-S", "-c", ASK, url, self.token_file)
        if done.returncode and not must:
            return None
        assert done.returncode == 0, f"{url}: {done.stderr[-1000:]}"
        return json.loads(done.stdout)

    def nodes(self) -> dict[str, str]:
        """Address of each node that lives, by Ray's id of it."""
        found = self.ask("api/v0/nodes", limit=1000)["data"]["result"]["result"]
        return {node["node_id"]: node["node_ip"] for node in found if node["state"] == "ALIVE"}

    def actors(self) -> dict[str, list[str]]:
        """Classes of the actors that live, by the address of their node."""
        addresses = self.nodes()
        found = self.ask("api/v0/actors", detail=1, limit=1000)["data"]["result"]["result"]
        classes = defaultdict(list)
        for actor in found:
            if actor["state"] == "ALIVE" and actor["node_id"] in addresses:
                classes[addresses[actor["node_id"]]].append(actor["class_name"])
        return dict(classes)

    def job(self, name: str) -> dict[str, Any]:
        """What the job API says of a job."""
        return self.ask(f"api/jobs/{name}")

    def log(self, name: str) -> str:
        """What a job has said."""
        return self.ask(f"api/jobs/{name}/logs")["logs"]

    def wait_for_nodes(self, hosts: list[Host], what: str) -> dict[str, str]:
        """Until the nodes that live are those of these hosts."""
        wanted = sorted(host.address for host in hosts)
        return wait_for(
            lambda: nodes if sorted((nodes := self.nodes()).values()) == wanted else None,
            what,
            PAUSE_S,
        )
