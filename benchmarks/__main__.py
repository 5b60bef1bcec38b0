"""`make bench`: runs the benchmarks, prints the table, writes the results as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

import torch

from benchmarks.measure import Row
from benchmarks.results import DOCUMENT, LATEST, QUICK, machine, save, show, write_table

SUITES = (
    "learner",
    "collector",
    "fit",
    "replay",
    "rollouts",
    "weights",
    "checkpoint",
    "transition_log",
    "end_to_end",
    "algorithms",
    "whole_jobs",
    "memory",
    "back_pressure",
    "waiting",
    "driver",
)


def main() -> None:
    """Runs the suites named, or all; each is saved as soon as it is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suite", nargs="*", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="less work and fewer repeats")
    parser.add_argument("--table", action="store_true", help=f"only write the table of {DOCUMENT}")
    parser.add_argument("--output", type=Path, help=f"default: {LATEST}; of --quick, {QUICK}")
    arguments = parser.parse_args()
    output = arguments.output or (QUICK if arguments.quick else LATEST)
    unknown = sorted(set(arguments.suite) - set(SUITES))
    if unknown:
        parser.error(f"unknown suite {unknown[0]}: use some of {', '.join(SUITES)}")
    if arguments.table:
        write_table(DOCUMENT, json.loads(LATEST.read_text()))
        return
    torch.set_num_threads(1)
    here = machine(arguments.quick)
    done: list[Row] = []
    for suite in arguments.suite or SUITES:
        started = time.monotonic()
        print(f"{suite} ...", flush=True)
        # Imported only now: a suite without Ray needs none.
        rows = importlib.import_module(f"benchmarks.{suite}").rows(arguments.quick)
        save(output, here, suite, rows)
        done += rows
        print(f"{suite}: {time.monotonic() - started:.0f} s", flush=True)
    show([row.to_dict() for row in done])
    print(f"Written to {output}")
    if output == LATEST and not arguments.quick:
        write_table(DOCUMENT, json.loads(LATEST.read_text()))


if __name__ == "__main__":
    main()
