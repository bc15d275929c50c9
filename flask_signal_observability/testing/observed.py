"""What the requests of an app leave, caught where it comes out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from typing import Any
from typing import TYPE_CHECKING

import orjson
from opentelemetry import trace
from prometheus_client import CollectorRegistry

from ..extension import Observability
from ..log_formatter import LineFormatter
from ..pipeline import EXTENSION
from ..pipeline import Pipeline
from ..record import Sink
from ..rendering import to_json_line
from ..sinks.audit import AuditSink
from ..sinks.logs import LogsSink
from ..sinks.tracing import TracingSink
from ..watching.watch import Watches
from .recording import ObservedRequest
from .recording import RecordingSink
from .samples import check_known
from .samples import Reading
from .samples import total
from .spans import EndedSpans
from .spans import provider_of_its_own
from .spans import spans_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from flask import Flask
    from opentelemetry.sdk.trace import ReadableSpan

    from ..config import Config
    from ..record import RequestRecord
    from .samples import Known
    from .samples import Sample

__all__ = ["Observed"]

LEFT_ALONE = {
    "audit_path": os.devnull,
    "error_journal_path": os.devnull,
    "audit_chain": False,
    "audit_key": None,
    "audit_key_file": None,
    "audit_rotate_bytes": None,
    "audit_rotate_seconds": None,
    "metrics_port": None,
    "metrics_push": False,
    "metrics_shared": "off",
}
"""For an app without an Observability: nothing is written outside of the process."""


class Observed:
    """What the requests of an app, or of several, leave: ``with Observed(app) as observed``.

    An app that has an ``Observability`` keeps it: its sinks, its registry and its provider of spans are listened to,
    and write what they write without this. Any other gets one that writes nowhere, with a registry of its own.

    Args:
        app: The first to be listened to; others by a call.
        settings: Those of ``Observability``, for an app that has none.

    Raises:
        ConfigurationError: The app cannot be observed.
        ValueError: Settings without an app, or for one that has an ``Observability``.
    """

    def __init__(self, app: Flask | None = None, **settings: Any) -> None:
        self.spans: list[ReadableSpan] = []
        """All that have ended, in requests and outside of them."""
        self.records: list[dict[str, Any]] = []
        """All that were written by us, and by the app through the root logger."""
        self.audit_lines: list[str] = []
        """All that were written, without their seals."""
        self._recording = _Recording(self._find_spans)
        self._apps: list[Flask] = []
        self._before: list[tuple[CollectorRegistry, Reading]] = []
        self._listens_to_log = False
        self._exit = contextlib.ExitStack()
        if app is not None:
            self(app, **settings)
        elif settings:
            raise ValueError(f"settings are those of an app, and none is given: {', '.join(settings)}")

    def __call__(self, app: Flask, **settings: Any) -> Observed:
        """Listen to this app, too.

        Args:
            app: A second time changes nothing.
            settings: Those of ``Observability``, for an app that has none.

        Raises:
            ConfigurationError: The app cannot be observed.
            ValueError: Settings for an app that has an ``Observability``.
        """
        if any(app is known for known in self._apps):
            return self
        present = getattr(app, "extensions", {}).get(EXTENSION)
        if not isinstance(present, Pipeline):
            _observe(app, settings)
        elif settings:
            raise ValueError(f"{app!r} has an Observability, which has its settings: give it {', '.join(settings)}")
        pipeline: Pipeline = app.extensions[EXTENSION]
        self._apps.append(app)
        self._listen(pipeline)
        return self

    def __enter__(self) -> Observed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave every app as it was."""
        self._exit.close()

    @property
    def requests(self) -> list[ObservedRequest]:
        """Those that are over, their bodies read or closed; the newest is the last."""
        if not self._apps:
            raise LookupError("no app is observed: define a fixture called app, or call observed(app)")
        for app in self._apps:
            app.extensions[EXTENSION].finish_dropped()
        return self._recording.requests

    @property
    def events(self) -> list[Any]:
        """Renders, flashes, errors and watched signals, in requests and outside of them."""
        return self._recording.events

    def metric(self, name: str, **labels: object) -> float:
        """By how much the samples of this name that have these labels have grown since the test began, together.

        Args:
            name: As in ``/metrics``: ``orders_paid_total``, ``http_server_request_duration_seconds_count``. The
                app's own metrics of prometheus-client's are there, too, where they are in the same registry.
            labels: Some of the labels.

        Raises:
            LookupError: There is no metric of this name, or it does not have one of these labels.
        """
        samples: list[Sample] = []
        known: Known = {}
        for registry, before in self._before:
            now = Reading(registry)
            samples += now.since(before)
            known |= now.known
        check_known(known, name, labels)
        return total(samples, name, labels)

    # Where it comes out.

    def _listen(self, pipeline: Pipeline) -> None:
        registry = _registry_of(pipeline)
        if registry is not None and all(registry is not known for known, _ in self._before):
            self._before.append((registry, Reading(registry)))
        providers = [trace.get_tracer_provider()]
        for sink in pipeline.sinks:
            if isinstance(sink, TracingSink):
                providers.append(sink.provider)
            elif isinstance(sink, AuditSink):
                self._exit.callback(sink.copy_lines(self._audited))
        for provider in providers:
            self._listen_to_spans(provider)
        added: list[Any] = [self._recording]
        if any(type(sink) is LogsSink for sink in pipeline.sinks):
            config = dataclasses.replace(
                pipeline.config, log_stream=_Lines(self._recorded), log_format="json", log_schema="otel"
            )
            added.insert(0, LogsSink(config))
            self._listen_to_log(config)
        before = _Before()
        _wire(pipeline, [before, *pipeline.sinks, *added])
        self._exit.callback(_unwire, pipeline, [before, *added])

    def _listen_to_spans(self, provider: object) -> None:
        processor = EndedSpans.of(provider)
        if processor is not None and not any(spans is self.spans for spans in processor.listeners):
            processor.listeners.append(self.spans)
            self._exit.callback(_remove, processor.listeners, self.spans)

    def _listen_to_log(self, config: Config) -> None:
        """Listen to what reaches the root logger: the app's own lines, by ``configure_logging`` or without it."""
        if not self._listens_to_log:
            self._listens_to_log = True
            handler = logging.StreamHandler(_Lines(self._recorded))
            handler.setFormatter(LineFormatter(config, to_json_line))
            logging.root.addHandler(handler)
            self._exit.callback(logging.root.removeHandler, handler)

    def _recorded(self, line: str) -> None:
        if line.strip():
            record = orjson.loads(line)
            self.records.append(record)
            request = self._recording.here()
            if request is not None:
                request.records.append(record)

    def _audited(self, line: bytes) -> None:
        text = line.decode()
        self.audit_lines.append(text)
        request = self._recording.here()
        if request is not None:
            request.audit_lines.append(text)

    def _find_spans(self, request: ObservedRequest) -> list[ReadableSpan]:
        others = frozenset(other.span_id for other in self._recording.requests if other.span_id is not None)
        return spans_below(self.spans, request.span_id, others)


class _Recording(RecordingSink):
    """Adds what was counted, and where the spans are."""

    def __init__(self, find_spans: Callable[[ObservedRequest], list[ReadableSpan]]) -> None:
        super().__init__()
        self._find_spans = find_spans

    def make(self) -> ObservedRequest:
        return ObservedRequest(find_spans=self._find_spans)

    def finish(self, record: RequestRecord) -> None:
        before: Reading | None = record.state.pop(_Before.name, None)
        if before is not None:
            now = Reading(_registry_of(record.pipeline))
            request = self._of(record)
            request.samples, request.known = now.since(before), now.known
        super().finish(record)


class _Before(Sink):
    """Reads the registry before the request is counted anywhere."""

    name = "recording.before"

    def open(self, record: RequestRecord) -> None:
        record.state[self.name] = Reading(_registry_of(record.pipeline))


class _Lines:
    """A stream that hands on each line."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self.write = told


def _registry_of(pipeline: Pipeline) -> CollectorRegistry | None:
    return None if pipeline.exposition is None else pipeline.exposition.registry


def _observe(app: Flask, settings: dict[str, Any]) -> None:
    current = trace.get_tracer_provider()
    is_proxy = isinstance(current, trace.ProxyTracerProvider)
    objects = {
        "registry": CollectorRegistry(),
        "tracer_provider": provider_of_its_own() if is_proxy else current,
        "log_stream": _Lines(_forget),
    }
    Observability(app, **{**LEFT_ALONE, **objects, **settings})


def _forget(line: str) -> None:
    pass


def _wire(pipeline: Pipeline, sinks: list[Any]) -> None:
    pipeline.wire(sinks)
    for kept in pipeline.kept:
        if isinstance(kept, Watches):
            kept.renew(pipeline)


def _unwire(pipeline: Pipeline, sinks: list[Any]) -> None:
    _wire(pipeline, [sink for sink in pipeline.sinks if not any(sink is own for own in sinks)])


def _remove(listeners: list[list[ReadableSpan]], spans: list[ReadableSpan]) -> None:
    listeners[:] = [other for other in listeners if other is not spans]
