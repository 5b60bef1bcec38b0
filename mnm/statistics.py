"""Names and meanings of the statistics that an agent returns."""

from __future__ import annotations

from mnm.settings import Settings

ACTOR_CRITIC = {
    "critic_loss": "squared error of the critics, summed over both",
    "q_value": "mean action value",
    "q_target": "mean target of the action values",
    "policy_entropy": "nats, with actions scaled to (-1, 1)",
    "alpha": "entropy temperature",
    "critics_gradient_norm": "2-norm, at the last update of a call",
    "policy_gradient_norm": "2-norm, at the last update of a call",
}
MODEL = {
    "model_fit_steps": "gradient steps of the last maximum-likelihood fit",
    "model_holdout_nll": "nats per dimension of s' - s on held-out transitions, after that fit",
    "model_holdout_rmse": "error of s' - s there, in units of each dimension's scale",
}
CLASSIFIER = {
    "classifier_loss": "binary cross-entropy",
    "classifier_train_accuracy": "on training batches, before each step",
    "classifier_train_logit_real": "mean logit of real transitions there",
    "classifier_train_logit_imagined": "mean logit of imagined transitions there",
    "classifier_gradient_norm": "2-norm, at the last update of a call",
    "classifier_accuracy": "on held-out transitions",
    "classifier_logit_real": "mean logit of held-out real transitions",
    "classifier_logit_imagined": "mean logit of next states imagined at the same (s, a)",
    "classifier_logit_pool": "mean logit of next states imagined at the rollouts' (s, a)",
}
APPROX = {"classifier_reward_weight": "lambda of the log-ratio in the reward"}
JOINT = {
    "model_objective": "what the model maximises at imagined next states: w logit C + gamma V, or "
    "(1-k) (w logit C + V) with learned stopping",
    "model_nll": "nats per dimension of s' - s on training batches, outliers held down",
    "model_gradient_norm": "2-norm before clipping",
    "rewards_floored": "predicted rewards below the smallest real one, per update",
    "log_reward": "mean log of the transformed reward in the critics' target",
    "log_ratio": "mean clipped logit in the critics' target",
}
STOPPING = {
    "stop_probability": "mean of the stopping head",
    "stopping_gradient_norm": "2-norm, at the last update of a call",
}


def statistics(settings: Settings) -> dict[str, str]:
    """Every statistic that an agent with these settings returns at some time, and its meaning."""
    return {
        **ACTOR_CRITIC,
        **(MODEL if settings.has_model else {}),
        **(CLASSIFIER if settings.has_classifier else {}),
        **(APPROX if settings.algo == "mnm-approx" else {}),
        **(JOINT if settings.algo == "mnm" else {}),
        **(STOPPING if settings.has_stopping else {}),
    }
