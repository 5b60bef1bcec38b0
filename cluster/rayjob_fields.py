"""The fields of KubeRay's RayJob, typed: there is no published package of its schema.

Of the release 1.6 of KubeRay, without deprecated and alpha fields. Of pod templates, which are
Kubernetes' own, only what is looked at is here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class Fields(BaseModel):
    """Knows its fields only, and takes no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PodFields(BaseModel):
    """Knows some of its fields; Kubernetes' own schemas know the others."""

    model_config = ConfigDict(extra="allow", strict=True)


class Resources(PodFields):
    """Of a container, by Kubernetes' names."""

    limits: dict[str, str | int | float] = Field(default_factory=dict)


class Container(PodFields):
    """With one Ray process of a cluster, or beside it."""

    name: str
    image: str
    resources: Resources = Field(default_factory=Resources)
    env: list[dict[str, Any]] = Field(default_factory=list)


class PodSpec(PodFields):
    """What runs in a pod; the first container is Ray's."""

    containers: list[Container] = Field(min_length=1)


class PodTemplate(PodFields):
    """Of the pods of a group."""

    spec: PodSpec


class AuthOptions(Fields):
    """How Ray's processes know each other."""

    mode: Literal["disabled", "token"] = "token"
    secretName: str | None = None
    enableK8sTokenAuth: bool | None = None


class AutoscalerOptions(Fields):
    """Of the container beside the head."""

    version: Literal["v1", "v2"] | None = None
    idleTimeoutSeconds: NonNegativeInt | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    resources: dict[str, Any] | None = None
    image: str | None = None
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None
    securityContext: dict[str, Any] | None = None
    env: list[dict[str, Any]] | None = None
    envFrom: list[dict[str, Any]] | None = None
    volumeMounts: list[dict[str, Any]] | None = None


class Group(Fields):
    """What head and workers have in common."""

    rayStartParams: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] | None = None
    template: PodTemplate


class HeadGroup(Group):
    """The pod with the job's driver."""

    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    headService: dict[str, Any] | None = None
    enableIngress: bool = False


class WorkerGroup(Group):
    """Pods of one kind."""

    groupName: str
    replicas: NonNegativeInt = 0
    minReplicas: NonNegativeInt = 0
    maxReplicas: NonNegativeInt | None = None
    idleTimeoutSeconds: NonNegativeInt | None = None
    numOfHosts: PositiveInt = 1
    scaleStrategy: dict[str, list[str]] | None = None
    suspend: bool | None = None


class RayClusterSpec(Fields):
    """The cluster that a job gets."""

    rayVersion: str
    authOptions: AuthOptions | None = None
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headServiceAnnotations: dict[str, str] | None = None
    gcsFaultToleranceOptions: dict[str, Any] | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup] = Field(default_factory=list)
    managedBy: str | None = None
    suspend: bool | None = None


class RayJobSpec(Fields):
    """A job, and the cluster it runs on."""

    entrypoint: str = Field(min_length=1)
    rayClusterSpec: RayClusterSpec
    runtimeEnvYAML: str | None = None
    shutdownAfterJobFinishes: bool = False
    ttlSecondsAfterFinished: NonNegativeInt = 0
    activeDeadlineSeconds: PositiveInt | None = None
    backoffLimit: NonNegativeInt = 0
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = (
        None
    )
    submitterPodTemplate: dict[str, Any] | None = None
    submitterConfig: dict[str, Any] | None = None
    entrypointNumCpus: float | None = None
    entrypointNumGpus: float | None = None
    entrypointResources: str | None = None
    metadata: dict[str, str] | None = None
    jobId: str | None = None
    managedBy: str | None = None
    suspend: bool | None = None


class RayJob(Fields):
    """The object."""

    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: dict[str, Any]
    spec: RayJobSpec
