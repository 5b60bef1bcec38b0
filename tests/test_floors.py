"""Holds the floors: imports between the packages, and to what each may build on, only go down.

The packages stand on one another: `cluster` on `rllib_ext` on `distributed` on `mnm`. `FLOORS` says
what each must not import. The source is read, not run, so an import inside a function, under
`TYPE_CHECKING`, or by a name handed to `importlib` counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Floor:
    """What one package must not import.

    Attributes:
        forbidden: dotted names; everything below them is forbidden too.
        allowed: dotted names below a forbidden one that are allowed all the same.
        only_under: a folder of the package, and the dotted names that only its files may import.
    """

    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    only_under: tuple[str, tuple[str, ...]] | None = None


FLOORS = {
    "mnm": Floor(
        forbidden=("ray", "pyarrow", "gymnasium", "distributed", "rllib_ext", "cluster"),
        only_under=("mnm/tabular", ("matplotlib", "rich", "typer")),
    ),
    "distributed": Floor(
        forbidden=("ray.rllib", "rllib_ext", "cluster"),
        allowed=("ray.rllib.utils.actor_manager",),
    ),
    "rllib_ext": Floor(forbidden=("cluster",)),
    "cluster": Floor(forbidden=()),
}


def imported_names(source: str, path: str) -> Iterator[tuple[int, str]]:
    """Every dotted name that a file imports, with its line.

    Args:
        source: the file's text.
        path: where it stands below the repository's root, with forward slashes; relative imports
            are resolved from it.

    Yields:
        (line, name): for `from a.b import c` the name is `a.b.c`.
    """
    folder = path.split("/")[:-1]
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}" if module else alias.name
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            name = node.args[0]
            if called in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield node.lineno, str(name.value)


def violations(source: str, path: str) -> list[str]:
    """What a file imports from above its floor, a sentence for each; empty where it keeps to it.

    Args:
        source: the file's text.
        path: where it stands below the repository's root, with forward slashes.
    """
    package = path.split("/")[0]
    floor = FLOORS[package]
    forbidden = floor.forbidden
    if floor.only_under is not None and not path.startswith(floor.only_under[0] + "/"):
        forbidden += floor.only_under[1]
    return [
        f"{path}:{line}: {package}/ must not import {name}"
        for line, name in sorted(set(imported_names(source, path)))
        if _below(name, forbidden) and not _below(name, floor.allowed)
    ]


def package_files(package: str) -> list[Path]:
    """The Python files of a package, sorted; none where the folder is missing."""
    return sorted((ROOT / package).rglob("*.py"))


def _below(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the prefixes or stands below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("package", FLOORS)
def test_imports_only_go_down(package):
    files = package_files(package)
    assert files, f"{package}/ is missing or holds no Python file, so nothing was checked"
    found = [
        violation
        for file in files
        for violation in violations(
            file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix()
        )
    ]
    assert not found, "\n".join(["imports that go up:", *found])


def test_a_missing_package_has_no_files():
    assert package_files("no_such_package") == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mnm/agent.py", "import ray"),
        ("mnm/agent.py", "import numpy, ray.data as data"),
        ("mnm/agent.py", "from ray import remote"),
        ("mnm/agent.py", "import gymnasium as gym"),
        ("mnm/agent.py", "from pyarrow import Table"),
        ("mnm/agent.py", "from distributed.collector import Collector"),
        ("mnm/agent.py", "from rllib_ext import MnMConfig"),
        ("mnm/agent.py", "import matplotlib.pyplot as plt"),
        ("mnm/tabular.py", "import rich"),
        ("mnm/tabular/figures.py", "import ray"),
        ("mnm/agent.py", "def lazily():\n    import ray\n"),
        ("mnm/agent.py", "if TYPE_CHECKING:\n    from ray import ObjectRef\n"),
        ("mnm/agent.py", "try:\n    import ray\nexcept ImportError:\n    ray = None\n"),
        ("mnm/agent.py", "importlib.import_module('ray')"),
        ("mnm/agent.py", "import_module('cluster.cli')"),
        ("mnm/agent.py", "__import__('ray')"),
        ("mnm/tabular/figures.py", "from ...cluster import cli"),
        ("distributed/collector.py", "import ray.rllib"),
        ("distributed/collector.py", "from ray import rllib"),
        ("distributed/collector.py", "from ray.rllib.algorithms import Algorithm"),
        ("distributed/collector.py", "from ray.rllib.utils import *"),
        ("distributed/collector.py", "from rllib_ext.config import MnMConfig"),
        ("distributed/collector.py", "import cluster.cli"),
        ("rllib_ext/algorithm.py", "from cluster.cli import main"),
        ("rllib_ext/algorithm.py", "import cluster"),
    ],
)
def test_a_planted_upward_import_is_caught(path, source):
    found = violations(source, path)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("mnm/agent.py", "import torch\nimport numpy as np\nfrom mnm.policy import Policy"),
        ("mnm/agent.py", "import raylib\nfrom clusters import grouping"),
        ("mnm/agent.py", "from . import policy\nfrom .replay import Replay"),
        ("mnm/agent.py", "from .cluster import nearest"),
        ("mnm/agent.py", "import torch.distributed"),
        ("mnm/agent.py", "text = 'import ray'  # import ray"),
        ("mnm/agent.py", "importlib.import_module(name)"),
        ("mnm/tabular/figures.py", "import matplotlib.pyplot as plt\nimport rich, typer"),
        ("distributed/collector.py", "import ray, pyarrow, gymnasium\nfrom mnm import Agent"),
        (
            "distributed/pool.py",
            "from ray.rllib.utils.actor_manager import FaultTolerantActorManager",
        ),
        ("distributed/pool.py", "from ray.rllib.utils import actor_manager"),
        (
            "rllib_ext/algorithm.py",
            "from ray.rllib.algorithms import Algorithm\nimport distributed",
        ),
        ("cluster/cli.py", "import ray, mnm, distributed, rllib_ext"),
    ],
)
def test_a_downward_import_passes(path, source):
    assert violations(source, path) == []
