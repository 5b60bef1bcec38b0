"""Does it learn? Experiments of several seeds, their results as CSV tables, and docs/results.md."""
