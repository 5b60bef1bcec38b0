"""Prometheus beside a cluster: what it scrapes, and the alert rules for one without Grafana."""
