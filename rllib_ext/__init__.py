"""MnM for RLlib: `MnMConfig` and `MnM`."""

import logging

from ray.util import log_once

from rllib_ext.algorithm import MnM
from rllib_ext.config import MnMConfig

__all__ = ["MnM", "MnMConfig"]

# Two warnings of RLlib 2.60 about its own code, which no user of ours can mend: the notice of the
# new API stack, and RLModule's call of its own deprecated constructor.
log_once("MnM_on_new_api_stack")
logging.getLogger("ray._common.deprecation").addFilter(
    lambda record: "RLModuleConfig" not in record.getMessage()
)
