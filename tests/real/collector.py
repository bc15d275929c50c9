"""A real OpenTelemetry collector (rotel, from PyPI) that prints each span it is sent."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from pathlib import Path
from typing import Any
from typing import TYPE_CHECKING

from .client import answers
from .programs import eventually
from .programs import free_port
from .programs import running
from .programs import unavailable
from .spans import Span

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from .programs import Program

__all__ = ["Collector", "collecting", "parse_spans"]

_block = re.compile(r"^(ResourceSpans|ScopeSpans|Span) #\d+$|^\x1b\[2m\d{4}-", re.MULTILINE)
_field = re.compile(
    r"^(?:    )?(Trace ID|Parent ID|ID|Name|Kind|Start time|End time|Status code) *: ?(.*)$", re.MULTILINE
)
_attribute = re.compile(r"^     -> (\S+): (\w+)\((.*?)\)$(?=\n     -> |\n\S|\n*\Z)", re.MULTILINE | re.DOTALL)
_event = re.compile(r"^     -> Name: (.*)$", re.MULTILINE)
_types: dict[str, Callable[[str], Any]] = {"Int": int, "Double": float, "Bool": "true".__eq__}


class Collector:
    """What a running collector was sent."""

    def __init__(self, port: int, program: Program) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._program = program

    @property
    def spans(self) -> list[Span]:
        return parse_spans(self._program.output)

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._program.output

    def wait_for(self, predicate: Callable[[list[Span]], bool], timeout: float = 15.0) -> list[Span]:
        """Return the spans once ``predicate`` is true of them and the collector has stopped printing."""

        def settled() -> list[Span] | None:
            before = self._program.output
            spans = parse_spans(before)
            return spans if predicate(spans) and self._program.output == before else None

        return eventually(settled, timeout=timeout, what="spans in the collector") or []

    def stop(self) -> None:
        """End the collector, so that ``spans`` is final."""
        self._program.stop()


@contextlib.contextmanager
def collecting(directory: Path, *, printed: str = "traces", forward_to: str | None = None) -> Iterator[Collector]:
    """Run a collector with OTLP/HTTP on a free port, which prints this of what it is sent.

    It hands everything on where it is told to.
    """
    exporter: tuple[str, ...] = ("blackhole",)
    if forward_to is not None:
        exporter = ("otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", forward_to)
    agent = _agent()
    http_port, grpc_port = free_port(), free_port()
    command: list[str | Path] = [
        agent,
        "start",
        *("--otlp-http-endpoint", f"127.0.0.1:{http_port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"),
        *("--debug-log", printed, "--debug-log-verbosity", "detailed", "--exporter", *exporter),
        *("--pid-file", directory / "collector.pid"),
    ]
    with running(command, name="collector", directory=directory, ready=lambda: answers(http_port, "/")) as program:
        yield Collector(http_port, program)


def _agent() -> Path:
    package = importlib.util.find_spec("rotel")
    if package is None or package.origin is None:
        unavailable("no OpenTelemetry collector; pip install rotel==0.0.1a15 (Linux)")
    return Path(package.origin).with_name("rotel-agent")


def parse_spans(output: str) -> list[Span]:
    """Read the collector's detailed debug log; a span that is not printed whole yet is left out."""
    starts = [*_block.finditer(output)]
    ends = [match.start() for match in starts[1:]] + [len(output)]
    spans = []
    resource: dict[str, Any] = {}
    for match, end in zip(starts, ends, strict=True):
        text = output[match.end() : end]
        if match[1] == "ResourceSpans":
            resource = _attributes(text.partition("Resource attributes:\n")[2])
        elif match[1] == "Span" and "Status message" in text:
            spans.append(_span(text, resource))
    return spans


def _span(text: str, resource: dict[str, Any]) -> Span:
    head, _, tail = text.partition("\nAttributes:\n")
    attributes, _, events = (tail or head).partition("\nEvents:\n")
    field = {match[1]: match[2].strip() for match in _field.finditer(head)}
    return Span(
        trace_id=field["Trace ID"],
        span_id=field["ID"],
        parent_id=field["Parent ID"],
        name=field["Name"],
        kind=field["Kind"].removeprefix("SPAN_KIND_"),
        status=field["Status code"].removeprefix("STATUS_CODE_"),
        started_unix_ns=int(field["Start time"]),
        ended_unix_ns=int(field["End time"]),
        attributes=_attributes(attributes) if tail else {},
        events=tuple(_event.findall(events)),
        resource=resource,
    )


def _attributes(text: str) -> dict[str, Any]:
    return {match[1]: _types.get(match[2], str)(match[3]) for match in _attribute.finditer(text)}
