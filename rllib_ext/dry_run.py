"""`mnm train --dry-run`: what a run asks for, and whether the cluster has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import ray
from ray.tune.execution.placement_groups import PlacementGroupFactory

Resources = Mapping[str, float]


def placement_report(request: PlacementGroupFactory) -> tuple[list[str], bool]:
    """Compares a trial's request with the nodes of the cluster that is connected.

    Args:
        request: of the trial.

    Returns:
        Lines for the user, and whether all of it can be placed.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    lines = [f"The run asks for {describe_total(request.bundles)}:"]
    counts = Counter(describe(bundle) for bundle in request.bundles)
    lines += [f"  {count} x {bundle}" for bundle, count in counts.items()]
    lines.append(f"The cluster has {describe_total(nodes)} on {_plural(len(nodes), 'node')}:")
    free = ray.available_resources()
    lines += [f"  {describe(node)}" for node in nodes]
    lines.append(f"Of these are free now: {describe(free) or 'none'}.")
    missing = unplaced(request.bundles, nodes)
    if missing:
        kinds = Counter(describe(bundle) for bundle in missing)
        listed = ", ".join(f"{count} x {bundle}" for bundle, count in kinds.items())
        lines.append(
            f"It does not fit: no place for {listed}. Unless the cluster grows the run waits; ask "
            "for fewer actors or add nodes."
        )
    else:
        lines.append("It fits.")
    return lines, not missing


def unplaced(bundles: Sequence[Resources], nodes: Sequence[Resources]) -> list[Resources]:
    """Bundles for which no node has room, when each goes where it first fits, largest first.

    Args:
        bundles: each on one node, several may share one.
        nodes: what each has in all.
    """
    left = [dict(node) for node in nodes]
    missing: list[Resources] = []
    # Scarce resources first: what needs a GPU must find it before others fill its node.
    for bundle in sorted(bundles, key=lambda b: (len(b), sum(b.values())), reverse=True):
        # To the node with the fewest kinds of resources: CPU bundles leave GPU nodes free.
        room = [
            node for node in left if all(node.get(kind, 0) >= n for kind, n in bundle.items() if n)
        ]
        if not room:
            missing.append(bundle)
            continue
        node = min(room, key=lambda node: sum(node.get(k, 0) > 0 for k in node if k not in bundle))
        for kind, amount in bundle.items():
            node[kind] = node.get(kind, 0) - amount
    return missing


def describe(resources: Resources) -> str:
    """CPUs, GPUs and custom resources in words."""
    named = {
        kind: amount
        for kind, amount in sorted(resources.items())
        if amount and kind not in ("memory", "object_store_memory") and ":" not in kind
    }
    return ", ".join(_plural(amount, kind) for kind, amount in named.items())


def describe_total(parts: Sequence[Resources]) -> str:
    """The sum of several, in words."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return describe(total)


def _plural(amount: float, noun: str) -> str:
    return f"{amount:g} {noun}{'s' if amount != 1 else ''}"
