"""`mnm train --dry-run`: what a run asks for, and whether the cluster has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import ray
from ray.tune.execution.placement_groups import PlacementGroupFactory

from rllib_ext.room import alive_nodes, describe, describe_total, lacking

NO_CLUSTER = (
    "No cluster is named, and a Ray started here has whatever is asked for: check a cluster by "
    "mnm submit --address URL -- train ... --dry-run, or set RAY_ADDRESS."
)


def request_report(request: PlacementGroupFactory, kinds: Sequence[str]) -> list[str]:
    """Lines for the user on what a trial asks for.

    Args:
        request: of the trial.
        kinds: who sits in each of its bundles.
    """
    lines = [f"The run asks for {describe_total(request.bundles)} ({request.strategy}):"]
    counts = Counter(zip(kinds, map(describe, request.bundles), strict=True))
    return lines + [f"  {count} x {kind}: {wants}" for (kind, wants), count in counts.items()]


def placement_report(
    request: PlacementGroupFactory, kinds: Sequence[str]
) -> tuple[list[str], bool]:
    """Compares a trial's request with the nodes of the cluster that is connected.

    Args:
        request: of the trial.
        kinds: who sits in each of its bundles.

    Returns:
        Lines for the user, and whether all of it can be placed.
    """
    nodes = alive_nodes()
    lines = request_report(request, kinds)
    many = "s" * (len(nodes) != 1)
    lines.append(f"The cluster has {describe_total(nodes)} on {len(nodes)} node{many}:")
    lines += [f"  {describe(node) or 'nothing for actors'}" for node in nodes]
    lines.append(f"Of these are free now: {describe(ray.available_resources()) or 'none'}.")
    lack = lacking(request.bundles, kinds, nodes)
    if lack is None:
        lines.append("It fits.")
    else:
        lines.append(
            f"It does not fit. {lack} Unless the cluster grows the run waits; ask for fewer actors "
            "or add nodes."
        )
    return lines, lack is None
