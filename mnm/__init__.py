"""MnM: joint model-policy optimization (Eysenbach et al., NeurIPS 2022), without Ray."""

from mnm.agent import Agent
from mnm.agent_networks import TaskSpaces
from mnm.rollouts import RolloutRequest
from mnm.settings import ALGORITHMS, Settings
from mnm.transitions import DataRefused, Transitions

__all__ = [
    "ALGORITHMS",
    "Agent",
    "DataRefused",
    "RolloutRequest",
    "Settings",
    "TaskSpaces",
    "Transitions",
]
