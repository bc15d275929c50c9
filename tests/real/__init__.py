"""Tests with real parts: gunicorn, Prometheus, an OpenTelemetry collector, and OTLP on the wire."""
