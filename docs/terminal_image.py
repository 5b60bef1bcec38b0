"""Draws what `mnm train` shows on a terminal, as it stands after a run's last result.

python docs/terminal_image.py RUN docs/images/terminal.svg
"""

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console

from distributed.storage import Location
from rllib_ext.health import Health
from rllib_ext.progress import ProgressDisplay
from rllib_ext.run_folder import RESULT_FILE
from rllib_ext.run_plan import RunPlan

WIDTH = 92  # columns


def draw(run: Path, picture: Path) -> None:
    """Shows the results of the run in `run` one by one, and saves the last panel as SVG."""
    folder = Location.of(run)
    plan = RunPlan.load(folder)
    config = plan.config(folder)
    results = [json.loads(line) for line in (run / RESULT_FILE).read_text().splitlines()]
    now = 0.0
    health, lag = Health(config), config.resolved_max_weight_lag()
    display = ProgressDisplay(plan.title, plan.steps, health, lag, clock=lambda: now)
    console = Console(record=True, force_terminal=True, width=WIDTH, file=io.StringIO())
    display.setup(console)
    for iteration, result in enumerate(results):
        now = result["time_total_s"]
        display.on_trial_result(iteration, [], None, result)
    display.stop()
    console.export_text()  # forgets the panels before
    console.print(display.panel)
    svg = console.export_svg(title=f"mnm train --env {plan.env}", unique_id="mnm")
    # Rich names a font of another host, which nothing here may load.
    picture.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
