"""What `mnm cluster check` finds in a file for Kubernetes: schemas, then what MnM needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from cluster.pinned_versions import PinnedVersions
from cluster.rayjob_fields import Group, RayClusterSpec, RayJob
from rllib_ext.errors import UserError
from rllib_ext.placement import COLLECTOR, LEARNER, ROLLOUT_WORKER

KUBERNETES_VERSION = "1.34"  # whose schemas pods and other objects must fit
GPU = "nvidia.com/gpu"
EXAMPLE_REGISTRY = "registry.example.com"


def kubernetes_problems(documents: list[dict[str, Any]], pins: PinnedVersions) -> Iterator[str]:
    """One line for each thing that is wrong in the objects of a file.

    Args:
        documents: the objects, a RayJob among them.
        pins: the versions that the project is tested with.

    Raises:
        UserError: there is no RayJob, or the schemas of Kubernetes are not installed.
    """
    if not any(document["kind"] == "RayJob" for document in documents):
        raise UserError("There is no RayJob in the file: KubeRay's other kinds are not checked.")
    for document in documents:
        if document["kind"] == "RayJob":
            yield from _job_problems(document, pins)
        else:
            yield from _object_problems(document, str(document["kind"]))
        if document["kind"] == "Secret" and (document.get("data") or document.get("stringData")):
            yield "Secret: its content stands in the file; make it with kubectl create secret"


def kubernetes_notes(documents: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each value that is still the file's example."""
    for document in documents:
        if document["kind"] == "RayJob" and EXAMPLE_REGISTRY in json.dumps(document):
            yield f"images come from {EXAMPLE_REGISTRY}, an example; name your registry"


def _job_problems(document: dict[str, Any], pins: PinnedVersions) -> Iterator[str]:
    try:
        job = RayJob.model_validate(document).spec
    except ValidationError as error:
        for detail in error.errors():
            yield f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
        return
    cluster = job.rayClusterSpec
    groups = _named_groups(cluster)
    schema_problems = [
        problem
        for name, group in groups
        for problem in _object_problems(
            {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "template": group.template.model_dump(exclude_unset=True),
            },
            name,
        )
    ]
    if schema_problems:
        yield from schema_problems
        return
    if cluster.rayVersion != pins.ray:
        yield f"rayVersion: {cluster.rayVersion} does not match ray=={pins.ray} of {pins.source}"
    for name, group in groups:
        yield from _container_problems(name, group, pins)
    if cluster.authOptions is None or cluster.authOptions.mode != "token":
        yield "authOptions: there is no token; use mode: token and a secretName"
    elif cluster.authOptions.secretName is None:
        yield "authOptions: there is no secretName of the Secret with the token"
    head = cluster.headGroupSpec
    if head.serviceType != "ClusterIP" or head.enableIngress:
        yield "headGroupSpec: the dashboard is open beyond the cluster; use serviceType: ClusterIP"
    yield from _group_problems(cluster)
    if not job.shutdownAfterJobFinishes:
        yield "shutdownAfterJobFinishes: the pods stay, and cost, when the job is over; set it"


def _named_groups(cluster: RayClusterSpec) -> list[tuple[str, Group]]:
    workers = [(f"workerGroupSpecs.{group.groupName}", group) for group in cluster.workerGroupSpecs]
    return [("headGroupSpec", cluster.headGroupSpec), *workers]


def _container_problems(name: str, group: Group, pins: PinnedVersions) -> Iterator[str]:
    for container in group.template.spec.containers:
        missing = [kind for kind in ("cpu", "memory") if kind not in container.resources.limits]
        if missing:
            yield f"{name}: container {container.name} has no limit of {' and '.join(missing)}"
        mismatch = pins.image_mismatch(container.image)
        if mismatch:
            yield f"{name}: {mismatch} of {pins.source}"
        for variable in container.env:
            if variable.get("name") == "RAY_AUTH_TOKEN" and "value" in variable:
                yield f"{name}: the token itself stands in the file; leave it to authOptions"


def _group_problems(cluster: RayClusterSpec) -> Iterator[str]:
    """Counts of pods, and which of them offer what."""
    learners: list[Group] = []
    collectors: list[Group] = []
    rollout_workers: list[Group] = []
    if LEARNER in (_ray_resources(cluster.headGroupSpec) or ()):
        learners.append(cluster.headGroupSpec)
    names = [group.groupName for group in cluster.workerGroupSpecs]
    for group in cluster.workerGroupSpecs:
        name = f"workerGroupSpecs.{group.groupName}"
        if names.count(group.groupName) > 1:
            yield f"{name}: there are two groups of this name"
        if group.maxReplicas is None:
            yield f"{name}: there is no maxReplicas, and no end to its cost"
        elif not group.minReplicas <= group.replicas <= group.maxReplicas:
            yield (
                f"{name}: minReplicas {group.minReplicas}, replicas {group.replicas} and "
                f"maxReplicas {group.maxReplicas} are not in this order"
            )
        if group.maxReplicas == 0:
            continue
        offered = _ray_resources(group)
        if offered is None:
            yield f"{name}: rayStartParams.resources is no JSON within quotes, '\"{{...}}\"'"
            continue
        if LEARNER in offered:
            learners.append(group)
        if COLLECTOR in offered and not _gpus(group):
            collectors.append(group)
        if ROLLOUT_WORKER in offered:
            rollout_workers.append(group)
    if not all(map(_gpus, learners)):
        yield f"the group with the resource '{LEARNER}' has no limit {GPU}"
    if not learners:
        yield f"workerGroupSpecs: no group has the resource '{LEARNER}'"
    if not collectors:
        yield f"workerGroupSpecs: no CPU group has the resource '{COLLECTOR}'"
    if not rollout_workers:
        yield f"workerGroupSpecs: no group has the resource '{ROLLOUT_WORKER}'"
    if not cluster.enableInTreeAutoscaling:
        yield "enableInTreeAutoscaling: without it no pod is added and none is given back; set it"


def _ray_resources(group: Group) -> set[str] | None:
    """Names of the custom resources of a group, None where they cannot be read."""
    text = group.rayStartParams.get("resources", '"{}"')
    try:
        named = json.loads(json.loads(text))
        return {*named, *group.resources}
    except (TypeError, ValueError):
        return None


def _gpus(group: Group) -> int:
    limits = [
        str(container.resources.limits.get(GPU)) for container in group.template.spec.containers
    ]
    return sum(int(limit) for limit in limits if limit.isdigit())


def _object_problems(document: dict[str, Any], name: str) -> Iterator[str]:
    """What the schemas of Kubernetes refuse."""
    try:
        import kubernetes_validate
    except ImportError as error:
        raise UserError(
            "Checking objects of Kubernetes needs its schemas: pip install 'mnm-rl[kubernetes]'."
        ) from error
    try:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        yield f"{name}: {place}: {error.message}" if place else f"{name}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{name}: Kubernetes {KUBERNETES_VERSION} has no such kind ({error.message})"
