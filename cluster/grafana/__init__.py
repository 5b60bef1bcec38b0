"""Dashboards, alerts and data source in Grafana: built with typed builders, pushed or exported."""
