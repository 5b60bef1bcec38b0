"""Running MnM, on one machine or many."""
