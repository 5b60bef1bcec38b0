"""The real Prometheus, on a port of its own, for one test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

READY_S = 30.0


def program(name: str) -> str:
    """Path of a program of Debian's package `prometheus`."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: run the tests with `make test-system`"
    return path


@dataclass(frozen=True)
class Prometheus:
    """One that runs.

    Attributes:
        url: of its API.
    """

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The data that its API answers with."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy: it is on this machine
            answer = session.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        content = answer.json()
        assert content["status"] == "success", content
        return content["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        return self.ask("query", query=expression)["result"]


@contextmanager
def prometheus(config: Path, storage: Path) -> Iterator[Prometheus]:
    """Starts one and ends it by its process id.

    Args:
        config: its configuration.
        storage: a folder for its data.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(storage.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={storage}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + READY_S
        while True:
            assert process.poll() is None, storage.with_suffix(".log").read_text()
            try:
                server.ask("status/buildinfo")
            except (OSError, ValueError, AssertionError):
                assert time.monotonic() < deadline, storage.with_suffix(".log").read_text()
                time.sleep(0.2)
            else:
                break
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
