"""Tests that the folder `distributed` refuses to share an environment with Dask's package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PRETEND = """
from importlib import metadata
found = metadata.distribution
metadata.distribution = lambda name: object() if name == "distributed" else found(name)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_importing_where_dask_is_installed_says_what_to_do() -> None:
    done = run(f"{PRETEND}\nimport distributed")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: Dask's package 'distributed' is installed")
    assert "an environment of its own" in last
    assert "make install" in last


def test_every_module_of_the_folder_is_guarded() -> None:
    done = run(f"{PRETEND}\nimport distributed.collector")
    assert done.returncode == 1
    assert "Dask" in done.stderr


def test_importing_without_dask_is_quiet() -> None:
    done = run("import distributed; print(distributed.__file__)")
    assert done.returncode == 0
    assert done.stderr == ""
    assert Path(done.stdout.strip()) == ROOT / "distributed" / "__init__.py"
