"""Runs nothing where no hosts can be made, and says why; nothing of them may stay behind."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.lab import DISK, Desk, processes_in, wait_for
from tests.hosts.requirements import install, why_not

OWN = re.compile(r"(bridge|host)\d+$")  # interfaces of a lab
REPLACED = ("/run", "/tmp", "/dev/shm", "/etc", "/proc")  # what has mounts in a lab


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Ends pytest at once where nothing can run; None lets it go on."""
    reason = why_not()
    if reason is None:
        install()
        reason = why_not()
    if reason is None:
        return None
    print(f"The tests between hosts did not run: {reason}.")
    return 0


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A desk without hosts yet, of which nothing stays behind."""
    before = machine()
    made = Desk()
    try:
        yield made
    finally:
        made.end()
    wait_for(lambda: not processes_in(made.seen), "all processes and namespaces are gone")
    assert machine() == before


def machine() -> dict[str, object]:
    """What the tests could leave behind here: interfaces, mounts, files."""
    home = Path.home()
    touched = [home / name for name in (".ray/auth_token", ".ssh", ".bashrc", "mnm", "mnm-venv")]
    touched += [DISK, Path("/tmp/ray/cluster-mnm-local.state")]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "interfaces": {name for name in os.listdir("/sys/class/net") if OWN.match(name)},
        "mounts": Counter(place for place in mounts if place.startswith(REPLACED)),
        "files": {str(file): file.stat().st_mtime if file.exists() else None for file in touched},
    }
