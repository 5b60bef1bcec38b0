"""The script of a job: `ray job submit ... -- python -m cluster.train ...` is `mnm train` there."""

from __future__ import annotations

import sys

from cluster.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
