"""The report on one or more runs: one HTML page, and the same figures as tables."""
