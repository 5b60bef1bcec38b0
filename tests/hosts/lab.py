"""Hosts with addresses of their own on one machine, of which nothing can be left behind.

All of them live below one process, the desk's first: in its network, mount and process namespaces.
The kernel ends it when the process that made it ends, however that comes, and everything below it
with it: bridge, addresses, mounts, processes; and the files, which lie on a disk in memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "192.0.2"  # for documentation: no real machine has such an address
DESK_ADDRESS = f"{NETWORK}.1"
DISK = Path("/run/lab")  # of the lab alone, seen by all hosts
SHARED = DISK / "shared"
DISK_BYTES = "4g"
SHARED_MEMORY_BYTES = "256m"  # of a host
PATIENCE_S = 300.0

# What every process of the lab reads besides the system's own folders; kept when /tmp is replaced.
KEPT = sorted({ROOT, Path(sys.prefix), Path(sys.base_prefix)})
SPACES = ["--net", "--mount", "--pid", "--ipc", "--uts"]
KINDS = ["net", "mnt", "pid", "ipc", "uts"]  # the same in /proc
UNSHARE = ["unshare", *SPACES, "--propagation=private", "--fork", "--kill-child", "--mount-proc"]

# $1 is the name, then come the kept folders. root's home, /tmp, /run and /dev/shm are its own.
PRIVATE = """
set -e
name=$1; shift
own=/run/lab/hosts/$name
mkdir -p $own
rm -rf $own/tmp
[ -d $own/home ] || cp -r /etc/skel $own/home
mkdir -p $own/tmp
hostname $name
sed "s|^root:.*|root:x:0:0:root:$own/home:/bin/bash|" /etc/passwd > $own/passwd
mount --bind $own/passwd /etc/passwd
echo 'root:*:19000:0:99999:7:::' > $own/shadow
mount --bind $own/shadow /etc/shadow
for kept in "$@"; do
  case $kept in /tmp/*) mkdir -p $own$kept; mount --rbind $kept $own$kept ;; esac
done
mount --rbind $own/tmp /tmp
mount -t tmpfs -o size=@SHARED_MEMORY_BYTES@ tmpfs /dev/shm
ip link set lo up
""".replace("@SHARED_MEMORY_BYTES@", SHARED_MEMORY_BYTES)
DESK = f"""
mount -t tmpfs -o size={DISK_BYTES} tmpfs /run
mkdir -p {SHARED} /run/sshd
{PRIVATE}
ip link add bridge0 type bridge
ip address add {DESK_ADDRESS}/24 dev bridge0
ip link set bridge0 up
mkdir -m 700 $own/home/.ssh
ssh-keygen -q -t ed25519 -N '' -f $own/home/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f /run/lab/host_key
cp $own/home/.ssh/id_ed25519.pub /run/lab/authorized_keys
touch /run/lab/ready
exec sleep infinity
"""
# Ray finds a host's address by its default route.
HOST = f"""
address=$1; shift
{PRIVATE}
until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done
ip address add $address/24 dev eth0
ip link set eth0 up
ip route add default via {DESK_ADDRESS}
exec /usr/sbin/sshd -D -E $own/sshd.log -f /dev/null -h /run/lab/host_key -o PidFile=none \
  -o ListenAddress=$address -o AuthorizedKeysFile=/run/lab/authorized_keys -o StrictModes=no
"""


class Place:
    """Processes with namespaces of their own, below the process `first`.

    Args:
        name: of the host.
        command: that starts the first process in new namespaces.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.home = DISK / "hosts" / name / "home"
        self._started = subprocess.Popen(
            # Even a SIGKILL of the tests ends this process, and the namespaces with it.
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.first = wait_for(self._first_process, f"{name} starts")
        self.namespaces = {os.readlink(f"/proc/{self.first}/ns/{kind}") for kind in KINDS}

    def _first_process(self) -> int | None:
        """The pid, in this process's own numbers, of the one that is number 1 in there."""
        assert self._started.poll() is None, f"{self.name} could not be made"
        for process in psutil.Process(self._started.pid).children(recursive=True):
            numbers = namespace_pids(process.pid)
            if len(numbers) > 1 and numbers[-1] == 1:
                return process.pid
        return None

    @property
    def enter(self) -> list[str]:
        """Words before a command that run it there, in the repository's folder."""
        return ["nsenter", "--target", str(self.first), *SPACES, "--", "env", "-C", str(ROOT)]

    @property
    def environment(self) -> dict[str, str]:
        """A login's, with the tests' own Python first in PATH."""
        path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"HOME": str(self.home), "USER": "root", "PATH": path, "LANG": "C.UTF-8"}

    def start(self, *words: object, extra: Mapping[str, str] | None = None, **how: Any) -> Any:
        """A process there, as by `subprocess.Popen`, with `extra` in its environment."""
        return subprocess.Popen(
            [*self.enter, *map(str, words)],
            env={**self.environment, **(extra or {})},
            text=True,
            **{"stdin": subprocess.DEVNULL, **how},
        )

    def run(
        self, *words: object, extra: Mapping[str, str] | None = None, timeout: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command there to its end."""
        process = self.start(*words, extra=extra, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} did not end:\n{out[-3000:]}\n{err[-3000:]}") from None
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def check(self, *words: object, **how: Any) -> str:
        """Runs a command that must succeed; its output."""
        done = self.run(*words, **how)
        assert done.returncode == 0, f"{words}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def path(self, inside: str | Path) -> Path:
        """Where a file of this place is seen from outside, while the place lives."""
        return Path(f"/proc/{self.first}/root", str(inside).lstrip("/"))

    def end(self) -> None:
        """Kills everything in there at once."""
        if psutil.pid_exists(self.first) and self._started.poll() is None:
            psutil.Process(self.first).kill()
        self._started.wait(PATIENCE_S)


class Host(Place):
    """One machine of the cluster: an ssh server, a disk, a cable.

    Args:
        desk: where it stands.
        number: last part of its address.
    """

    def __init__(self, desk: Desk, number: int) -> None:
        self.desk, self.number = desk, number
        self.address = f"{NETWORK}.{number}"
        self.cable = f"host{number}"
        self.boot()

    def boot(self) -> None:
        """Switches it on, with the disk it had; /tmp is new."""
        inside = ["nsenter", "--target", str(self.desk.first), "--net", "--mount", "--pid", "--"]
        script = ["sh", "-c", HOST, "sh", self.address, self.cable, *map(str, KEPT)]
        super().__init__(self.cable, [*inside, *UNSHARE, *script])
        self.desk.seen |= self.namespaces
        here = str(namespace_pids(self.first)[1])
        veth = ["type", "veth", "peer", "name", "eth0", "netns", here]
        self.desk.check("ip", "link", "add", self.cable, *veth)
        self.desk.check("ip", "link", "set", self.cable, "master", "bridge0", "up")
        wait_for(lambda: self.desk.login(self.address, "true").returncode == 0, "sshd answers")

    def pull_cable(self) -> None:
        """Cuts the network; the processes go on."""
        self.desk.check("ip", "link", "set", self.cable, "down")

    def plug_cable(self) -> None:
        """The network is there again."""
        self.desk.check("ip", "link", "set", self.cable, "up")

    def cut_dead(self) -> None:
        """As by its power switch: no word of farewell reaches anybody, then all of it is gone."""
        self.pull_cable()
        self.end()
        wait_for(lambda: self.desk.run("ip", "link", "show", self.cable).returncode, "it is gone")


class Desk(Place):
    """The user's machine, with the bridge that joins the hosts; where Ray's commands are given."""

    def __init__(self) -> None:
        super().__init__("desk", [*UNSHARE, "sh", "-ec", DESK, "sh", "desk", *map(str, KEPT)])
        self.hosts: list[Host] = []
        self.seen = set(self.namespaces)  # of all that ever stood here
        wait_for(self.path(DISK / "ready").exists, "the desk is ready")

    def add_hosts(self, numbers: Sequence[int]) -> list[Host]:
        """Machines with these last parts of their addresses."""
        self.hosts += [Host(self, number) for number in numbers]
        return self.hosts

    def login(self, address: str, command: str) -> subprocess.CompletedProcess[str]:
        """A command over ssh."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
        return self.run("ssh", *(f"-o{option}" for option in options), address, command)


def namespace_pids(pid: int) -> list[int]:
    """A process's numbers, from the namespace of whoever asks to its own."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    (line,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return [int(number) for number in line.split()[1:]]


def processes_in(namespaces: set[str]) -> list[Path]:
    """The folders in /proc of all processes that live in one of these namespaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended just now
            if any(os.readlink(link) in namespaces for link in (folder / "ns").iterdir()):
                found.append(folder)
    return found


def wait_for(found: Callable[[], Any], what: str, pause: float = 0.1) -> Any:
    """Waits, within reason, for something that is true; `pause` seconds between two looks."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"Waited in vain until {what}."
        time.sleep(pause)
    return value
