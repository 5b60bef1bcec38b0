"""The dashboard *learning*: does it learn, does the bound hold, is the model right?"""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from cluster.grafana.names import LEARNING_UID
from cluster.grafana.panels import Query, build_dashboard, panel, series

NUMBER = "short"
SHARE = "percentunit"
EVALUATION = 'role="evaluation"'


def learning_dashboard(datasource: str | None = None) -> Dashboard:
    """Builds it.

    Args:
        datasource: uid of the Prometheus to begin with; None: Grafana's first.
    """
    return build_dashboard(
        LEARNING_UID,
        "MnM learning",
        "Returns, bound, model and classifier of the runs chosen above.",
        {
            "Does it learn?": _returns(),
            "Does the bound hold?": _bound(),
            "Is the model right?": _model(),
            "Classifier: real or imagined?": _classifier(),
            "Critics and policy": _actor_critic(),
        },
        datasource,
    )


def _returns() -> Iterator[timeseries.Panel]:
    yield panel(
        "Return",
        "Mean return of the last episodes: in training with exploration (collector), and of the "
        "last evaluation with the policy's mean. Flat for long: see the classifier and the gap.",
        NUMBER,
        [Query(series("mnm_episode_return_mean", by="role"), "{{run}} {{role}}")],
    )
    yield panel(
        "Smallest and largest return",
        "Of the same episodes. A wide range in evaluation: the policy fails from some states.",
        NUMBER,
        [
            Query(series("mnm_episode_return_min", by="role"), "{{run}} {{role}} smallest"),
            Query(series("mnm_episode_return_max", by="role"), "{{run}} {{role}} largest"),
        ],
    )
    yield panel(
        "Length of episodes",
        "Mean real steps of the same episodes: the time limit, unless something ends them earlier.",
        NUMBER,
        [Query(series("mnm_episode_length_mean", by="role"), "{{run}} {{role}}")],
    )


def _bound() -> Iterator[timeseries.Panel]:
    yield panel(
        "Bound and log return",
        "The bound, estimated by imagined rollouts, and the log of the real return that it bounds, "
        "each with its 95 % interval (dashed). The bound holds where it lies below.",
        NUMBER,
        [
            Query(series("mnm_bound_estimate", EVALUATION), "{{run}} bound"),
            Query(series("mnm_bound_estimate_low", EVALUATION), "{{run}} bound lower end"),
            Query(series("mnm_bound_estimate_high", EVALUATION), "{{run}} bound upper end"),
            Query(series("mnm_bound_log_return", EVALUATION), "{{run}} log return"),
            Query(series("mnm_bound_log_return_low", EVALUATION), "{{run}} log return lower end"),
            Query(series("mnm_bound_log_return_high", EVALUATION), "{{run}} log return upper end"),
        ],
    )
    yield panel(
        "Gap",
        "Log return minus bound, in nats, with its 95 % interval (dashed). An interval wholly "
        "below zero: the bound does not hold, as with a classifier that is off.",
        NUMBER,
        [
            Query(series("mnm_bound_gap", EVALUATION), "{{run}} gap"),
            Query(series("mnm_bound_gap_low", EVALUATION), "{{run}} gap lower end"),
            Query(series("mnm_bound_gap_high", EVALUATION), "{{run}} gap upper end"),
        ],
        limits=[0.0],
    )
    yield panel(
        "Optimism of the model",
        "Log return that imagined trajectories promise minus that of real episodes, in nats, with "
        "its 95 % interval (dashed). Above zero the model promises more than comes.",
        NUMBER,
        [
            Query(series("mnm_bound_model_optimism", EVALUATION), "{{run}} optimism"),
            Query(series("mnm_bound_model_optimism_low", EVALUATION), "{{run}} optimism lower end"),
            Query(
                series("mnm_bound_model_optimism_high", EVALUATION), "{{run}} optimism upper end"
            ),
        ],
        limits=[0.0],
    )
    yield panel(
        "Objective of the model",
        "What the model maximises in the joint objective (mnm alone).",
        NUMBER,
        [Query(series("mnm_model_objective"), "{{run}}")],
    )


def _model() -> Iterator[timeseries.Panel]:
    yield panel(
        "Error on held-out transitions",
        "Root mean square error of the next state's change, in units of each dimension's scale: at "
        "1 the model is no better than the mean. It rises: new states; or too few fit steps.",
        NUMBER,
        [Query(series("mnm_model_holdout_rmse"), "{{run}}")],
        low=0.0,
    )
    yield panel(
        "Negative log-likelihood on held-out transitions",
        "Nats per dimension. It rises while the error falls: the predicted variance is too small.",
        NUMBER,
        [Query(series("mnm_model_holdout_nll"), "{{run}}")],
    )
    yield panel(
        "Rollout length and fit steps",
        "Steps of imagined rollouts by their schedule, and gradient steps of the last fit.",
        NUMBER,
        [
            Query(series("mnm_rollout_length"), "{{run}} rollout length"),
            Query(series("mnm_model_fit_steps"), "{{run}} fit steps"),
        ],
        low=0.0,
    )


def _classifier() -> Iterator[timeseries.Panel]:
    yield panel(
        "Accuracy",
        "On held-out transitions. Near 50 %: it cannot tell real from imagined; fine where the "
        "model's error is small. Above 95 %: saturated, the model is far from real.",
        SHARE,
        [Query(series("mnm_classifier_accuracy"), "{{run}}")],
        low=0.0,
        high=1.0,
        limits=[0.5, 0.95],
    )
    yield panel(
        "Mean logit",
        "Of real and of imagined transitions, and of those that rollouts reach. Real well above "
        "and imagined well below zero: the classifier tells them apart.",
        NUMBER,
        [
            Query(series("mnm_classifier_logit_real"), "{{run}} real"),
            Query(series("mnm_classifier_logit_imagined"), "{{run}} imagined"),
            Query(series("mnm_classifier_logit_pool"), "{{run}} imagined in rollouts"),
        ],
        limits=[0.0],
    )
    yield panel(
        "Loss",
        "Binary cross-entropy; at chance it is 0.69.",
        NUMBER,
        [Query(series("mnm_classifier_loss"), "{{run}}")],
        low=0.0,
    )


def _actor_critic() -> Iterator[timeseries.Panel]:
    yield panel(
        "Action values",
        "Mean value of the critics and mean target. Both grow without end: they diverge.",
        NUMBER,
        [
            Query(series("mnm_q_value"), "{{run}} value"),
            Query(series("mnm_q_target"), "{{run}} target"),
        ],
    )
    yield panel(
        "Critic loss",
        "Squared error of the critics, summed over both.",
        NUMBER,
        [Query(series("mnm_critic_loss"), "{{run}}")],
        low=0.0,
    )
    yield panel(
        "Entropy and temperature",
        "Entropy of the policy, in nats, and the temperature that holds it at its target.",
        NUMBER,
        [
            Query(series("mnm_policy_entropy"), "{{run}} entropy"),
            Query(series("mnm_temperature"), "{{run}} temperature"),
        ],
    )
    yield panel(
        "Gradient norms",
        "Before clipping, by network. Spikes that stay: lower that network's learning rate.",
        NUMBER,
        [Query(series("mnm_gradient_norm", by="network"), "{{run}} {{network}}")],
        low=0.0,
        width=12,
    )
    yield panel(
        "Figures that are no number",
        "Losses, values and gradient norms that came out infinite or NaN, in all. It must stay 0.",
        NUMBER,
        [Query(series("mnm_non_finite_statistics"), "{{run}}")],
        low=0.0,
        width=12,
    )
