"""Writes docs/settings.md: `python docs/settings_page.py > docs/settings.md`."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import griffe

from distributed.flow import FlowCounts
from distributed.telemetry import METRICS, TIME_PARTS
from mnm import Settings
from mnm.settings import ALGORITHMS, PRESETS
from mnm.statistics import statistics
from rllib_ext import MnMConfig
from rllib_ext.bound_summary import NO_ESTIMATE
from rllib_ext.run_figures import PATHS, RunFigures
from rllib_ext.setting_names import OWN_NAMES, SETTING_NAMES

PREAMBLE = """\
<!-- Written by `python docs/settings_page.py`: a setting's text is that of MnMConfig.training. -->
# Settings and figures

## Settings

Their names are those of [`MnMConfig.training`](api.md#rllib), of `--set NAME=VALUE` and of the
file that `--config` names. These are the defaults; `mnm train`, and `tuned_config` from RLlib, take
what `rllib_ext/tuned/` has for a task instead. `algo` and the numbers of workers and their GPUs are
options of `mnm train`. "mnm:" in front says that the other algorithms do not read a setting.

| setting | default | what it is |
|---|---|---|"""

FIGURES = """
## Figures

Every result, and every row of `progress.csv`, has these of the learner as
`learners/default_policy/NAME`, means over the updates of its last turn unless they say otherwise.
Those of parts that an algorithm does not have are left out.

| figure | what it is |
|---|---|"""

RUN = """
These of the run stand beside RLlib's own at the top of a result, all of them so far unless they say
otherwise; `bound/...`, in nats, only with an evaluation and a classifier, and each but the horizon
with the ends of its 95 % interval as `_low` and `_high`.

| figure | what it is |
|---|---|"""

SHORT = """
A line of `mnm train --json` has the figures that a person follows under short names, and
{derived}, which follow from two results; `faults` and `warnings` stand beside them.

| in `--json` | in a result |
|---|---|"""


def page() -> str:
    """The page as Markdown."""
    config, defaults = MnMConfig(), Settings().to_dict()
    meanings = _described(MnMConfig.training, "parameters")
    lines = [PREAMBLE]
    lines += [
        f"| `{name}` | {_default(name, defaults[name])} | {meanings[name]} |"
        for name in SETTING_NAMES
    ]
    lines += [
        f"| `{name}` | {_shown(getattr(config, name))} | {meanings[name]} |" for name in OWN_NAMES
    ]
    every: dict[str, str] = {}
    for algo in ALGORITHMS:
        every |= statistics(Settings.preset(algo))
    every |= statistics(Settings(bound="learned-stopping"))
    parts = ", ".join(f"`seconds_{part}`" for part in TIME_PARTS if part != "idle")
    every[parts.strip("`")] = "what the learner spent them on, summed over the iteration's turns"
    for heading, table in ((FIGURES, every), (RUN, _run_figures())):
        lines += [heading, *(f"| `{name}` | {meaning} |" for name, meaning in table.items())]
    derived = [f"`{name}`" for name in RunFigures(0).take({}) if name not in PATHS]
    lines += [
        SHORT.format(derived=", ".join(derived)),
        *(f"| `{name}` | `{path}` |" for name, path in PATHS.items()),
    ]
    return "\n".join(lines) + "\n"


def _run_figures() -> dict[str, str]:
    """What each figure of a run is, by its name in a result."""
    exported = {figure: metric.meaning for metric in METRICS for figure in metric.series}
    names = [
        *("num_updates_lifetime", "num_synthetic_transitions_lifetime"),
        *("num_offline_transitions", "num_offline_updates"),
        *("updates_to_data_ratio", "weights_version"),
    ]
    counts = _described(FlowCounts, "attributes")
    actors = [
        f"num_{state}_{kind}"
        for kind in ("collectors", "rollout_workers")
        for state in ("healthy", "pending")
    ]
    bound = [f"bound/{name}" for name in NO_ESTIMATE if not name.endswith(("_low", "_high"))]
    exported["bound/horizon"] = "steps of the trajectories, real and imagined, that these are of"
    return {
        **{name: exported[name] for name in names},
        **{field.name: counts[field.name].rstrip(".") for field in fields(FlowCounts)},
        **{name: exported[name] for name in (*actors, *bound)},
    }


def _described(documented: Callable[..., Any], kind: str) -> dict[str, str]:
    """What a docstring says of each argument or attribute, in one line."""
    docstring = griffe.Docstring(inspect.getdoc(documented) or "")
    (items,) = (
        section.value
        for section in docstring.parse("google", warnings=False)
        if section.kind.value == kind
    )
    return {each.name: " ".join(each.description.split()) for each in items}


def _default(name: str, value: Any) -> str:
    """The default, and where an algorithm has another one."""
    others = [f"{algo}: {_shown(own[name])}" for algo, own in PRESETS.items() if name in own]
    return f"{_shown(value)} ({', '.join(others)})" if others else _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


if __name__ == "__main__":
    print(page(), end="")
