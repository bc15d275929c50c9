"""The page about moving from other tools: both programs run, and tell the same of the same traffic."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flask_signal_observability import Config

pytest.importorskip("opentelemetry.instrumentation.flask", reason="needs the extra bench")

PAGE = (Path(__file__).parent.parent / "examples" / "migration" / "README.md").read_text()

DRIVE = """
client = app.test_client()
for path in ("/pay/EUR", "/pay/USD"):
    client.post(path, headers={"X-Tenant": "acme"})
client.get("/healthz")
client.get("/nowhere")
print(client.get("/metrics").text)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the programs print, the one before and the one after."""
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OBSERVABILITY_"))}
    environ["OTEL_TRACES_EXPORTER"] = "console"
    return [
        subprocess.run(
            [sys.executable, "-c", program + DRIVE],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path_factory.mktemp("migration"),
            env=environ,
            timeout=60,
        ).stdout
        for program in programs
    ]


@pytest.mark.parametrize(
    "line",
    [
        'flask_http_request_total{method="POST",status="200"} 2.0',
        'flask_http_request_total{method="GET",status="404"} 1.0',
    ],
)
def test_both_programs_count_the_same_under_the_names_of_before(printed: list[str], line: str) -> None:
    before, after = printed
    assert line in before.splitlines()
    assert line in after.splitlines()


def test_the_duration_is_found_by_the_label_of_before(printed: list[str]) -> None:
    pattern = r'^flask_http_request_duration_seconds_count\{endpoint="pay",method="POST",.*status="200".*\} 2\.0$'
    assert [len(re.findall(pattern, text, re.MULTILINE)) for text in printed] == [1, 1]


def test_a_counter_and_a_tag_of_before_are_there_after(printed: list[str]) -> None:
    after = printed[1]
    assert 'orders_paid_total{currency="EUR",flask_app="shop"} 1.0' in after
    assert '"tenant": "acme"' in after
    assert "/healthz" not in after


def test_every_setting_that_the_page_names_exists() -> None:
    fields = {field.name for field in dataclasses.fields(Config)} | {"tracer_provider", "registry"}
    named = set(
        re.findall(r"`([a-z]+(?:_[a-z]+)+)(?:=\w+)?`", "\n".join(re.findall(r"\| ([^|]*) \|$", PAGE, re.MULTILINE)))
    )
    others = {"request_started", "request_finished", "request_id", "trace_id", "configure_logging"}
    others |= {"http_server_active_requests", "flask_app_info", "before_request"}
    assert named - fields - others == set()
