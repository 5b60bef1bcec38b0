"""The results as JSON, as a table on the console and as the table in docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.learning.tables import version
from benchmarks.measure import Row

LATEST = Path(__file__).parent / "results" / "latest.json"
QUICK = LATEST.with_name("quick.json")  # not kept: of a quick run
DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
TABLE_START = "<!-- table of benchmarks/results/latest.json: python -m benchmarks --table -->"
TABLE_END = "<!-- end of the table -->"
FILE_WIDTH = 160  # of the table where there is no terminal
COLUMNS = ("measured", "ours", "unit", "peer", "ratio", "limit", "share of limit", "spread")


def machine(quick: bool) -> dict[str, str]:
    """What the figures were taken on, and whether by a full run or a quick one."""
    return {
        "run": "quick" if quick else "full",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "ray", "gymnasium", "mujoco")},
    }


def merge(
    old: dict[str, Any] | None, machine: dict[str, str], suite: str, rows: Sequence[Row], code: str
) -> dict[str, Any]:
    """The results with one suite's rows replaced; the others' stay where they are.

    Rows of another machine, other versions, or of a quick run beside a full one are dropped: one
    table must not mix them.

    Args:
        old: what the file held, or None.
        machine: what the new rows were taken on.
        suite: whose rows they are.
        rows: their names start with the suite's and a colon.
        code: version that they were taken with; each suite keeps its own.
    """
    assert all(row.name.startswith(f"{suite}: ") for row in rows)
    if old is not None and old["machine"] == machine:
        kept, codes = old["rows"], old["code"]
    else:
        kept, codes = [], {}
    own = [position for position, row in enumerate(kept) if row["name"].startswith(f"{suite}: ")]
    others = [row for position, row in enumerate(kept) if position not in own]
    place = own[0] if own else len(others)
    return {
        "machine": machine,
        "code": {**codes, suite: code},
        "rows": [*others[:place], *(row.to_dict() for row in rows), *others[place:]],
    }


def save(file: Path, machine: dict[str, str], suite: str, rows: Sequence[Row]) -> None:
    """Merges one suite's rows into the file."""
    old = json.loads(file.read_text()) if file.is_file() else None
    if old is not None and old["machine"] != machine:
        print(f"{file.name} was of another machine, version or length of run: its rows go.")
    file.parent.mkdir(parents=True, exist_ok=True)
    content = merge(old, machine, suite, rows, version())
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    table = Table(title="speed, medians")
    for column in COLUMNS:
        text = column in ("measured", "unit", "peer")
        table.add_column(column, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)


def markdown(content: dict[str, Any]) -> str:
    """The table and a line about the machine, in Markdown."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
        *(f"| {' | '.join(cells(row))} |" for row in content["rows"]),
        "",
        "Taken on: " + ", ".join(f"{name} {value}" for name, value in content["machine"].items()),
        "",
        "With the code of: "
        + ", ".join(f"{suite} {code}" for suite, code in content["code"].items()),
    ]
    return "\n".join(lines)


def cells(row: dict[str, Any]) -> list[str]:
    """One row's texts, empty where a column does not apply."""
    return [
        row["name"],
        number(row["ours"]),
        row["unit"],
        "" if row["peer"] is None else f"{number(row['peer'])} ({row['peer_name']})",
        "" if row["ratio"] is None else number(row["ratio"]),
        "" if row["limit"] is None else number(row["limit"]),
        "" if row["limit_share"] is None else f"{row['limit_share']:.0%}",
        f"{row['spread']:.0%}",
    ]


def number(value: float) -> str:
    """Three significant digits, more where they stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_table(document: Path, content: dict[str, Any]) -> None:
    """Replaces what stands between the two markers of a document by the table.

    Raises:
        ValueError: a marker is missing.
    """
    text = document.read_text()
    before, start, rest = text.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise ValueError(f"{document} lacks the lines {TABLE_START!r} and {TABLE_END!r}: add them.")
    document.write_text(f"{before}{start}\n\n{markdown(content)}\n\n{end}{after}")


def _processor() -> str:
    """The processor's name, where Linux says it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
