"""Writes docs/metrics.md: `python -m distributed.telemetry_page > docs/metrics.md`."""

from __future__ import annotations

from distributed.telemetry import SECTIONS, Metric, prometheus_name

PREAMBLE = """\
<!-- Written by `python -m distributed.telemetry_page`, from distributed/telemetry.py. -->
# Metrics

Every run sets these metrics with `ray.util.metrics` after each turn of its learner (at most once
a second), and Ray exports them on every node. `cluster/prometheus/prometheus.yml` has Prometheus
scrape them; the dashboards and alert rules of `mnm dashboard` show them.

Prometheus runs beside the head of the cluster, from a checkout:

    prometheus --config.file=cluster/prometheus/prometheus.yml

The head keeps a file of the nodes to scrape, unless it was started without Ray's dashboard; a run
that started a Ray of its own has none. On Kubernetes, where the file is inside the head's pod, this
was not tried. On one machine, start a head first, with a CPU for each process of the run, here
five:

    ray start --head --num-cpus=8
    RAY_ADDRESS=auto mnm train --env Hopper-v5

`cluster/prometheus/rules.yml` holds the alerts of the dashboards once more, for an Alertmanager
without Grafana; leave it out of `rule_files` where Grafana alerts.

- Ray's exporter puts `ray_` before the name. It also adds labels of its own (`SessionName`,
  `WorkerId`, ...); ours are `run`, the run's name, on all of them, `role`, whose figure it is,
  and `worker`, the number of one collector or rollout worker where each has a series.
- All are gauges, the totals too. A Ray counter can only be raised: it would start at zero in a
  process that goes on from a checkpoint, and stay for ever when its process is gone. A gauge
  vanishes 20 seconds after it was last set, so a run that has ended has no series any more, and a
  turn, fit or evaluation longer than that leaves a gap.
- Take rates with `clamp_min(deriv(ray_mnm_env_steps[1m]), 0)`, not with `rate()`: a run that goes
  on from a checkpoint takes its totals back, which `rate()` would read as a counter that began
  again at zero.
- For some seconds after a restart a run has two series, of the old process and of the new:
  `max by (run) (...)` joins them.
- A metric that the algorithm does not have, or that has no value yet, has no series: those of the
  model before its first fit, those of the classifier with `sac` and `mbpo`, those of an
  evaluation before the first one.
- Ray exports more by itself: `ray_node_gpus_utilization`, `ray_node_gram_used`,
  `ray_node_mem_used` and others for every node, the rollout workers' GPUs among them.
"""


def page() -> str:
    """The page as Markdown."""
    lines = [PREAMBLE]
    for title, metrics in SECTIONS.items():
        lines += [
            f"## {title}\n",
            "| in Prometheus | kind | unit | meaning | labels |",
            "|---|---|---|---|---|",
            *(_row(metric) for metric in metrics),
            "",
        ]
    return "\n".join(lines).strip() + "\n"


def _row(metric: Metric) -> str:
    labels = [f"`{label}`: {', '.join(metric.values_of(label))}" for label in metric.labels[1:]]
    if metric.per_worker:
        labels = [*labels[:-1], "`worker`: its number"]
    cells = (
        f"`{prometheus_name(metric)}`",
        metric.kind,
        metric.unit,
        metric.meaning,
        "; ".join(label for label in labels if not label.endswith(": ")),
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(page(), end="")
