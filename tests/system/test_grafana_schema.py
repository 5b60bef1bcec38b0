"""The dashboards are of Grafana's published types: the npm package @grafana/schema, and tsc."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.grafana.content import dashboards
from tests.cluster.commands import ROOT

TYPES = ROOT / "tests" / "system" / "grafana_types.ts"
BUILDERS = importlib.metadata.version("grafana-foundation-sdk").split("!")[1]
NEWEST = "13.2.3"
# The last versions with the type of a query for Prometheus are those before 11.
PACKAGES = ("prometheus-schema@npm:@grafana/schema@10.4.0", "typescript@5.8.3")
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "skipLibCheck": True,
    "module": "esnext",
    "moduleResolution": "bundler",
    "types": [],
}


@pytest.fixture(scope="module", params=[BUILDERS, NEWEST])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the types of one version of Grafana."""
    for program in ("node", "npm"):
        assert shutil.which(program), f"{program} is not installed: apt-get install nodejs npm"
    folder = tmp_path_factory.mktemp("types")
    (folder / "package.json").write_text('{"private": true}')
    shutil.copy(TYPES, folder)
    words = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(
        ["npm", *words, f"@grafana/schema@{request.param}", *PACKAGES],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=240,
    )
    packages = folder / "node_modules"
    paths = {}
    for name, package, files in (
        ("timeseries-panel", "@grafana/schema", "raw/composable/timeseries/panelcfg/x/*.d.ts"),
        ("prometheus-query", "prometheus-schema", "raw/composable/prometheus/dataquery/x/*.d.ts"),
    ):
        # Up to Grafana 12 the types lie in dist/esm, and later in dist/types.
        found = [*(packages / package).glob(f"dist/*/{files}")]
        assert found, f"{package} has no {files}"
        paths[name] = [str(max(found))]
    options = {**OPTIONS, "paths": paths}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    return folder


def complaints(project: Path, boards: list[dict[str, Any]]) -> str:
    """What the compiler says of the dashboards as constants of the type; empty: nothing."""
    lines = ["import type { Board } from './grafana_types';"]
    for number, board in enumerate(boards):
        lines.append(f"export const board{number}: Board = {json.dumps(board, indent=1)};")
    (project / "boards.ts").write_text("\n".join(lines))
    done = subprocess.run(
        [project / "node_modules" / ".bin" / "tsc", "--project", "."],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (done.stdout == "")
    return done.stdout


def test_the_dashboards_are_of_grafanas_types(project: Path) -> None:
    assert complaints(project, dashboards()) == ""


def _misspelt(place: dict[str, Any], name: str) -> None:
    place[name + "x"] = place.pop(name)


def _wrong(place: dict[str, Any], name: str) -> None:
    place[name] = "none-of-these"


FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "timezonex": lambda board: _misspelt(board, "timezone"),
    "skipUrlSyncx": lambda board: _misspelt(board["templating"]["list"][1], "skipUrlSync"),
    "iconColorx": lambda board: _misspelt(board["annotations"]["list"][0], "iconColor"),
    "descriptionx": lambda board: _misspelt(board["panels"][1], "description"),
    "legendx": lambda board: _misspelt(board["panels"][1]["options"], "legend"),
    "legendFormatx": lambda board: _misspelt(board["panels"][1]["targets"][0], "legendFormat"),
    "unitx": lambda board: _misspelt(board["panels"][1]["fieldConfig"]["defaults"], "unit"),
    "lineWidthx": lambda board: _misspelt(
        board["panels"][1]["fieldConfig"]["defaults"]["custom"], "lineWidth"
    ),
    "none-of-these": lambda board: _wrong(board["panels"][1]["options"]["tooltip"], "mode"),
}


def test_every_kind_of_fault_is_found(project: Path) -> None:
    (board, _) = dashboards()
    boards = []
    for spoil in FAULTS.values():
        boards.append(copy.deepcopy(board))
        spoil(boards[-1])
    found = complaints(project, boards)
    assert [fault for fault in FAULTS if fault not in found] == []
