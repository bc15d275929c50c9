"""Settings that somebody has given and that have no effect."""

from __future__ import annotations

import io
import logging
from typing import Any
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from flask_signal_observability import Config
from flask_signal_observability import ConfigurationError
from flask_signal_observability import Observability
from flask_signal_observability.prerequisites import given_in_vain
from flask_signal_observability.prerequisites import PREREQUISITES

if TYPE_CHECKING:
    from pathlib import Path

OFF: dict[str, Any] = {"tracing": False, "metrics": False, "logs": False, "audit": False}

IN_VAIN: list[tuple[dict[str, Any], str, str, str]] = [
    ({"metrics": False, "metrics_push": True}, "metrics_push", "metrics is off", "set metrics=True"),
    ({"metrics": False, "metric_labels": {"plan": ("free",)}}, "metric_labels", "metrics is off", "set metrics=True"),
    (
        {"metrics_path": None, "metrics_access": "open"},
        "metrics_access",
        "nothing answers with the metrics",
        "set metrics_path or metrics_port",
    ),
    ({"tracing": False, "sql_comments": True}, "sql_comments", "tracing is off", "set tracing=True"),
    (
        {"tracing": False, "capture_response_headers": ("etag",)},
        "capture_response_headers",
        "tracing is off",
        "set tracing=True",
    ),
    (
        {"tracing": False, "flush_timeout_seconds": 2},
        "flush_timeout_seconds",
        "no output of this app is sent to a collector",
        'set tracing=True, metrics_push=True or log_stream="otlp"',
    ),
    ({"logs": False, "log_sample_rate": 0.1}, "log_sample_rate", "logs is off", "set logs=True"),
    ({"slow_request_seconds": 2}, "slow_request_seconds", "every request is logged", "set log_sample_rate below 1"),
    (
        {"log_format": "console", "log_schema": "ecs"},
        "log_schema",
        'log_format="console" has no names',
        'set log_format="json" or "auto"',
    ),
    ({"audit": False, "audit_chain": True}, "audit_chain", "audit is off", "set audit=True"),
    ({"audit": False, "audit_format": "json"}, "audit_format", "audit is off", "set audit=True"),
    (
        {"audit_interval_seconds": 5},
        "audit_interval_seconds",
        'audit_durability is not "interval"',
        'set audit_durability="interval"',
    ),
    (
        {"audit_keep": 7},
        "audit_keep",
        "nothing rotates the files",
        "set audit_rotate_bytes or audit_rotate_seconds",
    ),
]


@pytest.mark.parametrize(
    ("given", "name", "cause", "remedy"), IN_VAIN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_setting_that_has_no_effect_is_told_with_cause_and_remedy(
    given: dict[str, Any], name: str, cause: str, remedy: str
) -> None:
    assert given_in_vain(Config.resolve("shop", {}, given, {})) == [(name, cause, remedy)]


@pytest.mark.parametrize(
    "given",
    [
        {},
        OFF,
        {**OFF, "audit_durability": "os", "metrics_path": "/metrics"},  # the defaults, written out
        {**OFF, "metrics_path": None, "metrics_push": False},
        {**OFF, "log_level": "DEBUG", "log_stream": "stderr", "log_format": "json", "log_schema": "ecs"},
        {"log_stream": "otlp", "log_format": "json"},  # where there is no exporter, records go to stdout
        {"metrics_path": None, "metrics_port": 9100, "metrics_access": "open"},
        {"tracing": False, "metrics_push": True, "flush_timeout_seconds": 2},
        {"log_sample_rate": 0.1, "slow_request_seconds": 2},
        {"audit_durability": "interval", "audit_interval_seconds": 5},
        {"audit_rotate_seconds": 86400, "audit_keep": 7},
    ],
    ids=str,
)
def test_a_setting_that_has_an_effect_or_asks_for_nothing_is_not_told(given: dict[str, Any]) -> None:
    assert given_in_vain(Config.resolve("shop", {}, given, {})) == []


def test_the_first_cause_stands_for_those_after_it() -> None:
    config = Config.resolve("shop", {}, {"audit": False, "audit_keep": 7}, {})
    assert [vain.cause for vain in given_in_vain(config)] == ["audit is off"]


def test_every_setting_that_has_a_prerequisite_is_one() -> None:
    plain = Config()
    assert [name for settings, *_ in PREREQUISITES for name in settings if not hasattr(plain, name)] == []


def observe(tmp_path: Path, **settings: Any) -> None:
    app = Flask("shop")
    Observability(
        app,
        registry=CollectorRegistry(),
        tracer_provider=TracerProvider(shutdown_on_exit=False),
        audit_path=tmp_path / "audit.log",
        error_journal_path=tmp_path / "journal.log",
        **{"log_stream": io.StringIO(), **settings},
    )
    for sink in app.extensions["observability"].sinks:
        if hasattr(sink, "close"):
            sink.close()


def test_the_start_warns_of_all_of_them_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observe(tmp_path, metrics=False, metrics_push=True, max_routes=10, audit_keep=7)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("flask_signal_observability", logging.WARNING)
    assert record.getMessage() == (
        "settings without effect: metrics_push, max_routes (metrics is off: set metrics=True); "
        "audit_keep (nothing rotates the files: set audit_rotate_bytes or audit_rotate_seconds); or take them out"
    )


def test_the_start_says_nothing_where_all_have_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observe(tmp_path, audit_rotate_seconds=86400, audit_keep=7)
    assert caplog.records == []


def test_the_environment_gives_in_vain_as_a_keyword_does() -> None:
    config = Config.resolve("shop", {}, {}, {"OBSERVABILITY_AUDIT_KEEP": "7"})
    assert [vain.name for vain in given_in_vain(config)] == ["audit_keep"]


def test_a_key_that_seals_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="audit_key is given and audit_chain is off"):
        Config(audit_key="sixteen bytes and more")
