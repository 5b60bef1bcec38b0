"""Whether a cluster has room for a trial's bundles, and what it lacks, in one sentence."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.util.placement_group import placement_group_table

from distributed.storage import Location
from rllib_ext.errors import warn
from rllib_ext.placement import LEARNER, ROLES

Resources = Mapping[str, float]

PENDING_S = 60.0  # after which a run that waits says why
SAY_AGAIN_S = 300.0
HIDDEN = ("memory", "object_store_memory")  # of nodes; no bundle here asks for them


class RoomWatch(tune.Callback):
    """Says what a run waits for: at its start and, while it waits, from time to time.

    It does not refuse anything: a cluster may grow, and what others hold comes free.

    Args:
        request: of the trial.
        kinds: who sits in each of its bundles.
    """

    def __init__(self, request: PlacementGroupFactory, kinds: Sequence[str]) -> None:
        self.request = request
        self.kinds = kinds
        self._say_next = time.monotonic() + PENDING_S

    def setup(self, **info: Any) -> None:
        """Says at once what no node has."""
        lack = lacking(self.request.bundles, self.kinds, alive_nodes())
        if lack:
            warn(f"{lack} The run waits until the cluster grows.")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Says it again, or that others hold what is needed."""
        if time.monotonic() < self._say_next or not self._is_waiting():
            return
        self._say_next = time.monotonic() + SAY_AGAIN_S
        lack = lacking(self.request.bundles, self.kinds, alive_nodes())
        free = describe(ray.available_resources()) or "nothing"
        warn(
            f"The run still waits: {lack}"
            if lack
            else f"The run still waits: it asks for {describe_total(self.request.bundles)}, and "
            f"of what the nodes have, {free} is free."
        )

    def _is_waiting(self) -> bool:
        """Whether a placement group of these bundles has no place yet."""
        own = _counted(self.request.bundles)
        return any(
            group["state"] in ("PENDING", "RESCHEDULING")
            and _counted(group["bundles"].values()) == own
            for group in placement_group_table().values()
        )


def warn_if_not_shared(folder: Location, placement: str) -> None:
    """Says so where a run's folder may be on the disk of one node while others write to it too.

    This process, the trial's driver and the learner do.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not folder.is_local or len(nodes) == 1:
        return
    learners = [node["NodeID"] for node in nodes if LEARNER in node["Resources"]]
    if placement == ROLES and learners == [ray.get_runtime_context().get_node_id()]:
        return  # they are all here
    warn(
        f"{folder} must be on a disk that all {len(nodes)} nodes share; with none, give --output a "
        "URI like s3://bucket/run."
    )


def alive_nodes() -> list[Resources]:
    """What each node of the connected cluster has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def lacking(
    bundles: Sequence[Resources], kinds: Sequence[str], nodes: Sequence[Resources]
) -> str | None:
    """One sentence on what finds no place on the nodes and why; None if all does.

    Args:
        bundles: each on one node, several may share one.
        kinds: who sits in each bundle.
        nodes: what each has in all.
    """
    missing = unplaced(bundles, nodes)
    if not missing:
        return None
    asked = Counter(kinds)
    found = Counter((kinds[index], describe(bundles[index])) for index in missing)
    who = ", ".join(
        f"{_of(count, asked[kind])}{kind}{'s' * (asked[kind] > 1)} ({wants})"
        for (kind, wants), count in found.items()
    )
    reasons = []
    for kind in sorted({kind for index in missing for kind, n in bundles[index].items() if n}):
        needed = max(bundles[index].get(kind, 0) for index in missing)
        most = max((node.get(kind, 0) for node in nodes), default=0)
        wanted = sum(bundle.get(kind, 0) for bundle in bundles)
        there = sum(node.get(kind, 0) for node in nodes)
        if most < needed:
            reasons.append(f"no node has {_amount(needed, kind)}")
        elif there < wanted:
            reasons.append(f"of {_amount(wanted, kind)} the nodes have {there:g}")
    why = "; ".join(reasons) or "no node has all of it together"
    return f"There is no place for {who}: {why}."


def unplaced(bundles: Sequence[Resources], nodes: Sequence[Resources]) -> list[int]:
    """Indices of the bundles for which no node has room, when each goes where it first fits.

    Args:
        bundles: each on one node, several may share one.
        nodes: what each has in all.
    """
    left = [dict(node) for node in nodes]
    missing: list[int] = []

    def scarcity(index: int) -> tuple[int, float]:
        return len(bundles[index]), sum(bundles[index].values())

    # Scarce resources first: what needs a GPU must find it before others fill its node.
    for index in sorted(range(len(bundles)), key=scarcity, reverse=True):
        bundle = bundles[index]
        # To the node with the fewest kinds of resources: CPU bundles leave GPU nodes free.
        room = [
            node for node in left if all(node.get(kind, 0) >= n for kind, n in bundle.items() if n)
        ]
        if not room:
            missing.append(index)
            continue
        node = min(room, key=lambda node: sum(node.get(k, 0) > 0 for k in node if k not in bundle))
        for kind, amount in bundle.items():
            node[kind] = node.get(kind, 0) - amount
    return sorted(missing)


def describe(resources: Resources) -> str:
    """CPUs, GPUs and custom resources in words."""
    return ", ".join(
        _amount(amount, kind)
        for kind, amount in sorted(resources.items())
        if amount and kind not in HIDDEN and ":" not in kind and "_group_" not in kind
    )


def describe_total(parts: Sequence[Resources]) -> str:
    """The sum of several, in words."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return describe(total)


def _amount(amount: float, kind: str) -> str:
    return f"{amount:g} {kind}{'s' * (kind in ('CPU', 'GPU') and amount != 1)}"


def _of(count: int, asked: int) -> str:
    if asked == 1:
        return "the "
    return f"{count} " if count == asked else f"{count} of {asked} "


def _counted(bundles: Any) -> Counter[frozenset[tuple[str, float]]]:
    return Counter(
        frozenset((kind, float(n)) for kind, n in bundle.items() if n) for bundle in bundles
    )
