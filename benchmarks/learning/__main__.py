"""`make learn-NAME`: makes an experiment's runs that are not done yet and keeps their results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.learning.experiments import EXPERIMENTS
from benchmarks.learning.page import PAGE, write
from benchmarks.learning.runs import runs_of
from benchmarks.learning.session import is_done, make
from benchmarks.learning.tables import TABLES, update
from rllib_ext.errors import UserError


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    parser.add_argument("name", nargs="?", help=f"of {', '.join(EXPERIMENTS)}; none: list them")
    parser.add_argument("--seeds", help="instead of the experiment's own, as 0,1,2")
    parser.add_argument("--only", default="", help='runs whose "env/algo/variant" contains this')
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"), help="their folders")
    parser.add_argument("--tables", type=Path, default=TABLES, help=f"default: {TABLES}")
    parser.add_argument(
        "--page", action="store_true", help=f"only write {PAGE.name} from the tables"
    )
    parser.add_argument("--dry-run", action="store_true", help="say which runs there are")
    arguments = parser.parse_args()
    if arguments.page:
        if sys.argv[1:] != ["--page"]:
            parser.error(f"--page goes alone: it writes {PAGE.name} from the tables in {TABLES}")
        write()
        print(f"Written to {PAGE}")
        return
    if arguments.name is None:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:20} {experiment.hours:6.1f} h  {experiment.question}")
        return
    if arguments.name not in EXPERIMENTS:
        parser.error(f"unknown experiment {arguments.name}: use one of {', '.join(EXPERIMENTS)}")
    try:
        seeds = tuple(int(seed) for seed in arguments.seeds.split(",")) if arguments.seeds else None
    except ValueError:
        parser.error(f"--seeds {arguments.seeds} is not valid: use whole numbers, as 0,1,2")
    runs = runs_of(arguments.name, seeds, arguments.only)
    if not runs:
        parser.error(f"--only {arguments.only} matches no run of {arguments.name}")
    root = arguments.runs.resolve()
    if arguments.dry_run:
        for run in runs:
            print(f"{run.name}: {'done' if is_done(run, root) else 'to do'}")
        return
    torch.set_num_threads(1)
    try:
        whole = make(
            runs, root, lambda run: print(f"Written to {update(run, root, arguments.tables)}")
        )
    except UserError as error:
        sys.exit(f"benchmarks.learning: {error}")
    sys.exit(0 if whole else 130)


if __name__ == "__main__":
    main()
