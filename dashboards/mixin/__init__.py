"""Dashboards, recording rules and alerts, as functions of the catalogue and one `Slo`."""
