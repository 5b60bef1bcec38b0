"""`make bench`: runs every benchmark, prints the table and writes the results as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import checkpoint, learner
from benchmarks.measure import Row

RESULTS = Path(__file__).parent / "results" / "latest.json"
SUITES = {"learner": learner.rows, "checkpoint": checkpoint.rows}


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table(title="speed, medians")
    for column in ("name", "ours", "unit", "peer", "ratio", "limit", "share", "spread"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.ours:.1f}",
            row.unit,
            "" if row.peer is None else f"{row.peer:.1f} ({row.peer_name})",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.limit is None else f"{row.limit:.1f}",
            "" if row.limit_share is None else f"{row.limit_share:.0%}",
            f"{row.spread:.0%}",
        )
    Console().print(table)


def main() -> None:
    """Runs the suites named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", nargs="*", choices=[*SUITES, []], help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer updates and repeats")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in arguments.suite or SUITES for row in SUITES[name](arguments.quick)]
    show(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"machine": machine(), "rows": [row.to_dict() for row in rows]}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    print(f"Written to {RESULTS.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
