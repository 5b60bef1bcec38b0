"""What the tests between hosts need of a machine, and why they do not run where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# Debian's package of each command.
PACKAGES = {
    "ip": "iproute2",
    "ssh": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "rsync": "rsync",
    "unshare": "util-linux",
}


def why_not() -> str | None:
    """The reason that hosts cannot be made here, None where they can."""
    if sys.platform != "linux":
        return "hosts on one machine are made of Linux's namespaces"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    if missing() and shutil.which("apt-get") is None:
        return f"{', '.join(missing())} is missing, and apt-get to install it"
    if "unshare" in missing():
        return None  # seen once it is installed
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/run"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        return f"namespaces are forbidden here: {tried.stderr.strip()}"
    return None


def missing() -> list[str]:
    """Debian packages that are not installed."""
    return sorted({package for command, package in PACKAGES.items() if not shutil.which(command)})


def install() -> None:
    """Installs what is missing.

    Raises:
        SystemExit: apt-get could not.
    """
    packages = missing()
    if not packages:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"Installing Debian's {', '.join(packages)}")
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "--quiet", *words], capture_output=True, text=True, env=environment
        )
        if done.returncode:
            raise SystemExit(f"apt-get {words[0]} failed: {done.stderr.strip()}")
