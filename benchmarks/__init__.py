"""Speed, measured side by side with peers; see docs/performance.md."""
