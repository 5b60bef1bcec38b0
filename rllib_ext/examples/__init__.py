"""Examples of MnM under Ray Tune, each a script: `python -m rllib_ext.examples.grid_search`."""
