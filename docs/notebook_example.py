"""Trains MnM on InvertedPendulum-v5 with `mnm.Agent` alone: no Ray, one plain loop.

The return reaches 1000, the most there is, in about five minutes on one core.
"""

import gymnasium

from mnm import Agent, Settings, TaskSpaces, Transitions
from mnm.terminations import known_termination

TASK = "InvertedPendulum-v5"
SETTINGS = {
    "num_random_steps": 500,
    "updates_to_data_ratio": 10,
    "hidden_sizes": (128, 128),
    "target_entropy": -0.05,
    "dynamics_hidden_sizes": (128, 128, 128),
    "dynamics_weight_decay": (0.0, 0.0, 0.0, 0.0),
    "rollouts_per_step": 40,
    "rollout_schedule": (0, 1, 3, 3),
    "reward_beta": 10.0,
}


def train(steps: int = 2500, seed: int = 0, **changes: object) -> list[float]:
    """Trains for `steps` real steps; the return of every episode, the last one unfinished."""
    environment = gymnasium.make(TASK)
    box = environment.action_space
    box.seed(seed)
    spaces = TaskSpaces(environment.observation_space.shape[0], box.low, box.high)
    settings = Settings.preset("mnm", **{**SETTINGS, **changes})
    agent = Agent(spaces, settings, known_termination(TASK), seed=seed)

    observation, _ = environment.reset(seed=seed)
    returns, length = [0.0], 0
    for step in range(steps):
        explore = step < settings.num_random_steps
        action = box.sample() if explore else agent.act(observation[None])[0]
        following, reward, terminated, truncated, _ = environment.step(action)
        agent.ingest(
            Transitions.single(
                observation, action, reward, following, terminated, truncated, len(returns), length
            )
        )
        agent.learn()

        observation, length = following, length + 1
        returns[-1] += reward
        if terminated or truncated:
            print(f"step {step + 1}: return {returns[-1]:.0f}")
            observation, _ = environment.reset()
            returns, length = [*returns, 0.0], 0
    return returns


if __name__ == "__main__":
    train()
