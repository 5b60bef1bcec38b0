"""The alert rules: one table, as rules of Grafana and as plain PromQL conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import alerting, expr, prometheus
from grafana_foundation_sdk.models import alerting as models
from grafana_foundation_sdk.models import dashboard as dashboard_models

from cluster.grafana.names import FOLDER_UID, LEARNING_UID, MACHINE_UID, RULE_GROUP, RULE_PREFIX
from distributed.telemetry import prometheus_name
from rllib_ext.health import RULES

SIGNS = {"gt": ">", "lt": "<"}
LOOK_BACK_S = 600


@dataclass(frozen=True)
class Alert:
    """One rule, evaluated for every run.

    Attributes:
        name: the end of its uid.
        title: of the rule.
        expression: PromQL; one series a run.
        sign: whether it fires above ("gt") or below ("lt") the threshold.
        threshold: of the expression.
        minutes: that it must hold without a break before the rule fires.
        summary: what is wrong, one sentence; Grafana fills in the run. Without `$`, which
            stands for the environment's variables in Grafana's files.
        action: what to do.
        dashboard: uid of the dashboard that shows what it is about.
        panel: title of the panel there.
    """

    name: str
    title: str
    expression: str
    sign: Literal["gt", "lt"]
    threshold: float
    minutes: int
    summary: str
    action: str
    dashboard: str
    panel: str

    @property
    def condition(self) -> str:
        """In PromQL: has a series for each run of which it holds."""
        return f"({self.expression}) {SIGNS[self.sign]} {self.threshold:g}"


def _newest(metric: str) -> str:
    return f"max by (run) ({prometheus_name(metric)})"


def _over(function: str, metric: str, window: str) -> str:
    return f"max by (run) ({function}({prometheus_name(metric)}[{window}]))"


def _advice(rule: str) -> str:
    """What the terminal says to the same fault; limits are the same too."""
    (advice,) = (one.advice for one in RULES if one.name == rule)
    return f"Try: {advice}."


ALERTS = (
    Alert(
        "no-env-steps",
        "No real steps for 5 minutes",
        # Updates on transitions from files come before the first real step.
        " + ".join(
            _over("changes", metric, "2m") for metric in ("mnm_env_steps", "mnm_offline_updates")
        ),
        "lt",
        1,
        3,  # and the two of the window
        "Run {{ .Labels.run }} has made no real step for five minutes.",
        "See the panel of the workers: none healthy, their nodes are gone; else the environment "
        "hangs, see its log. A learner that makes a long fit or evaluation ends by itself.",
        MACHINE_UID,
        "Real steps",
    ),
    Alert(
        "weights-stale",
        "Weights are stale",
        _newest("mnm_weights_age_seconds"),
        "gt",
        300,
        0,
        "Run {{ .Labels.run }} has published no weights for more than five minutes.",
        "The learner hangs, waits for real steps, or its fits are too long: see its time.",
        MACHINE_UID,
        "Weights published",
    ),
    Alert(
        "classifier-saturated",
        "Classifier saturated for 10 minutes",
        _newest("mnm_classifier_accuracy"),
        "gt",
        0.95,
        10,
        "The classifier of run {{ .Labels.run }} tells nearly every imagined transition from a "
        "real one.",
        _advice("classifier saturated"),
        LEARNING_UID,
        "Accuracy",
    ),
    Alert(
        "classifier-at-chance",
        "Classifier at chance for 10 minutes",
        # With a small error of the model it is what is wanted: then 1 is added.
        f"abs({_newest('mnm_classifier_accuracy')} - 0.5)"
        f" + ({_newest('mnm_model_holdout_rmse')} <= bool 0.3)",
        "lt",
        0.05,
        10,
        "The classifier of run {{ .Labels.run }} does not tell real from imagined transitions, yet "
        "the model's held-out error is above 0.3.",
        _advice("classifier at chance"),
        LEARNING_UID,
        "Accuracy",
    ),
    Alert(
        "not-a-number",
        "Figures that are no number",
        _over("delta", "mnm_non_finite_statistics", "5m"),
        "gt",
        0,
        0,
        "Losses, values or gradients of run {{ .Labels.run }} came out infinite or NaN.",
        _advice("not a number"),
        LEARNING_UID,
        "Figures that are no number",
    ),
    Alert(
        "learner-idle",
        "Learner idle for 10 minutes",
        _over("avg_over_time", "mnm_learner_idle_ratio", "5m"),
        "gt",
        0.5,
        10,
        "The learner of run {{ .Labels.run }} waits more than half of its time, evaluations and "
        "checkpoints included.",
        "Collectors or rollout workers are too few or too slow: give more of those whose queue is "
        "empty. Or evaluations and checkpoints take long: make them less often.",
        MACHINE_UID,
        "Learner idle",
    ),
    Alert(
        "restarts",
        "Workers restart again and again",
        _over("delta", "mnm_worker_restarts", "10m"),
        "gt",
        2.5,
        0,
        "Three or more workers of run {{ .Labels.run }} were restarted within ten minutes.",
        "See the log of their nodes: memory that ran out, nodes that are taken away, or an "
        "environment that crashes.",
        MACHINE_UID,
        "Failures",
    ),
)


def alert_rules(datasource: str, panels: dict[tuple[str, str], int]) -> list[models.Rule]:
    """The rules as Grafana takes them.

    Args:
        datasource: uid of the Prometheus that they ask.
        panels: id of each panel, by dashboard's uid and panel's title.
    """
    return [_rule(alert, datasource, panels[alert.dashboard, alert.panel]) for alert in ALERTS]


def _rule(alert: Alert, datasource: str, panel: int) -> models.Rule:
    span = models.RelativeTimeRange(from_val=LOOK_BACK_S, to=0)
    value = (
        alerting.Query("A")
        .datasource_uid(datasource)
        .relative_time_range(span)
        .model(
            prometheus.Dataquery()
            .ref_id("A")
            .datasource(dashboard_models.DataSourceRef(type_val="prometheus", uid=datasource))
            .expr(alert.expression)
            .instant()
        )
    )
    threshold = (
        alerting.Query("B")
        .datasource_uid("__expr__")
        .relative_time_range(span)
        .model(
            expr.TypeThreshold()
            .ref_id("B")
            .datasource(dashboard_models.DataSourceRef(type_val="__expr__", uid="__expr__"))
            .expression("A")
            .conditions(
                [
                    expr.ExprTypeThresholdConditions().evaluator(
                        expr.ExprTypeThresholdConditionsEvaluator()
                        .type(alert.sign)
                        .params([alert.threshold])
                    )
                ]
            )
        )
    )
    return (
        alerting.Rule(alert.title)
        .uid(RULE_PREFIX + alert.name)
        .folder_uid(FOLDER_UID)
        .rule_group(RULE_GROUP)
        .org_id(1)
        .condition("B")
        .with_query(value)
        .with_query(threshold)
        .for_val(f"{alert.minutes}m" if alert.minutes else "0s")
        # A run that has ended has no figures, and that is no fault.
        .no_data_state("OK")
        .exec_err_state("Error")
        .annotations(
            {
                "summary": alert.summary,
                "description": alert.action,
                "__dashboardUid__": alert.dashboard,
                "__panelId__": str(panel),
            }
        )
        .labels({"project": "mnm"})
        .is_paused(False)
        .build()
    )
