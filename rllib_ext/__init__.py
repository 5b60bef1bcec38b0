"""MnM for RLlib: `MnMConfig` and `MnM`."""

from rllib_ext.algorithm import MnM
from rllib_ext.config import MnMConfig

__all__ = ["MnM", "MnMConfig"]
