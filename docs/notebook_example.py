"""Trains MnM on InvertedPendulum-v5 with `mnm.Agent` alone: no Ray, one plain loop."""

import gymnasium
import numpy as np

from mnm import Agent, Settings, TaskSpaces, Transitions
from mnm.terminations import known_termination

SETTINGS = {
    **{"num_random_steps": 500, "updates_to_data_ratio": 10, "hidden_sizes": (128, 128)},
    **{"dynamics_hidden_sizes": (128, 128, 128), "dynamics_weight_decay": (0.0, 0.0, 0.0, 0.0)},
    **{"ensemble_size": 5, "num_elites": 3, "rollouts_per_step": 40, "target_entropy": -0.05},
    **{"reward_beta": 10.0, "rollout_schedule": (0, 1, 3, 3)},
}


def train(steps: int = 2500, seed: int = 0, **changes: object) -> list[float]:
    """Trains for `steps` real steps and gives the return of every episode."""
    env = gymnasium.make("InvertedPendulum-v5")
    env.action_space.seed(seed)
    box = env.action_space
    spaces = TaskSpaces(env.observation_space.shape[0], box.low, box.high)
    settings = Settings.preset("mnm", **{**SETTINGS, **changes})
    agent = Agent(spaces, settings, known_termination("InvertedPendulum-v5"), seed=seed)
    returns, episode_steps = [0.0], 0
    observation, _ = env.reset(seed=seed)
    for step in range(steps):
        random = step < settings.num_random_steps
        action = box.sample() if random else agent.act(observation[None])[0]
        following, reward, terminated, truncated, _ = env.step(action)
        row = (observation, action, reward, following, terminated, truncated)
        agent.ingest(Transitions(*(np.array([x]) for x in (*row, len(returns) - 1, episode_steps))))
        agent.learn()
        observation, returns[-1], episode_steps = following, returns[-1] + reward, episode_steps + 1
        if terminated or truncated:
            print(f"step {step + 1}: return {returns[-1]:.0f}")
            observation, _ = env.reset()
            returns, episode_steps = [*returns, 0.0], 0
    return returns


if __name__ == "__main__":
    train()
