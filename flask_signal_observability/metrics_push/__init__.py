"""Metrics over OTLP, from processes that nobody can scrape. Imported where ``metrics_push`` is on, and nowhere else.

``naming`` knows what our families are called there, ``batch`` turns families into OTLP's data, ``push`` sends them.
"""
