"""The answer at ``/metrics``: who may read it, and in which format."""

from __future__ import annotations

import gzip
import logging
import os
from functools import partial
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from prometheus_client import exposition as text
from prometheus_client import Metric
from prometheus_client.core import InfoMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics import exposition as openmetrics
from werkzeug.http import parse_accept_header
from werkzeug.http import parse_options_header
from werkzeug.wrappers import Response

from .metrics_store.runtime import is_of_one_process
from .metrics_store.store import MetricsStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIEnvironment
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    from .access import AccessRule
    from .guard import Guard
    from .metrics_store.reading import Reading

__all__ = ["Exposition", "collectors_of"]

logger = logging.getLogger("flask_signal_observability")


class Format(NamedTuple):
    """A format that prometheus_client writes."""

    media_type: str
    version: str
    encode: Callable[..., bytes]
    end: bytes
    """What follows the last family."""


TEXT_0_0_4 = Format("text/plain", "0.0.4", text.generate_latest, b"")
TEXT_1_0_0 = Format("text/plain", "1.0.0", text.generate_latest, b"")
OPENMETRICS = Format(
    "application/openmetrics-text", "1.0.0", partial(openmetrics.generate_latest, version="1.0.0"), b"# EOF\n"
)
FORMATS = (TEXT_0_0_4, OPENMETRICS, TEXT_1_0_0)
"""Where the client leaves a choice, the first that fits is taken."""

ESCAPINGS = (openmetrics.ALLOWUTF8, openmetrics.UNDERSCORES, openmetrics.DOTS, openmetrics.VALUES)
"""https://prometheus.io/docs/instrumenting/escaping_schemes/"""

LEGACY_NAMES_AS_THEY_ARE = frozenset({openmetrics.ALLOWUTF8, openmetrics.UNDERSCORES})
"""The schemes that change none of our names."""


class Exposition:
    """Answers a scrape with what ``generate_latest`` writes for the registry. A WSGI callable; thread-safe.

    It never raises: a collector that fails, or a family that cannot be written, is left out and counted, and
    whatever else fails is a 500.

    Args:
        registry: What is read, at every request anew.
        rule: Who may read it.
        guard: Counts failures, under ``metrics``.
    """

    def __init__(self, registry: CollectorRegistry, rule: AccessRule, guard: Guard) -> None:
        self.registry = registry
        self._rule = rule
        self._guard = guard

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, whatever its path: the caller has matched it."""
        response: Response = self._guard.call("metrics", "expose", self._respond, environ) or Response(
            "The metrics could not be written; the log of flask_signal_observability says why.\n", 500
        )
        response.cache_control.no_store = True
        return response(environ, start_response)

    def _respond(self, environ: WSGIEnvironment) -> Response:
        refusal = self._rule(environ)
        if refusal is not None:
            return Response(refusal.body, refusal.status, refusal.headers)
        method = environ["REQUEST_METHOD"]
        if method in {"GET", "HEAD"}:
            return self._scrape(environ)
        allow = {"Allow": "GET, HEAD, OPTIONS"}
        if method == "OPTIONS":
            return Response(status=200, headers=allow)
        return Response("Metrics are read with GET or HEAD.\n", 405, allow)

    def _scrape(self, environ: WSGIEnvironment) -> Response:
        format_, escaping = negotiate(environ.get("HTTP_ACCEPT"))
        names = set(parse_qs(environ.get("QUERY_STRING", "")).get("name[]", ()))
        body = self._write(format_, escaping or openmetrics.UNDERSCORES, names or None)
        content_type = f"{format_.media_type}; version={format_.version}; charset=utf-8"
        response = Response(content_type=f"{content_type}; escaping={escaping}" if escaping else content_type)
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if parse_accept_header(environ.get("HTTP_ACCEPT_ENCODING")).quality("gzip") > 0:
            response.headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=6)
        response.set_data(body)
        return response

    def _write(self, format_: Format, escaping: str, names: AbstractSet[str] | None) -> bytes:
        """Write each family on its own: one that cannot be written takes no other with it."""
        parts: list[bytes] = []
        ours_escape_nothing = escaping in LEGACY_NAMES_AS_THEY_ARE
        for collector in self._together(collectors_of(self.registry, names)):
            if isinstance(collector, MetricsStore) and names is None and ours_escape_nothing:
                parts += self._write_ours(collector, format_)
                continue
            for family in self._guard.call("metrics", "collect", _collect, collector, names, default=()):
                write = partial(format_.encode, _Families([family]), escaping=escaping)
                parts.append(self._guard.call("metrics", "encode", write, default=b"").removesuffix(format_.end))
        return b"".join([*parts, format_.end])

    def _together(self, collectors: list[Collector]) -> list[Collector]:
        """Replace the collectors that speak of one process by those that speak of all, where there are.

        The app's own metrics of prometheus_client's are this process's, unless its multiprocess mode is set up.
        """
        directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if directory and any(isinstance(collector, MetricWrapperBase) for collector in collectors):
            from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - few need it

            of_all = self._guard.call("metrics", "collect", MultiProcessCollector, None, directory)
            collectors = [collector for collector in collectors if not isinstance(collector, MetricWrapperBase)]
            collectors += [] if of_all is None else [of_all]
        runtime = next((c.runtime for c in collectors if isinstance(c, MetricsStore) and c.group is not None), None)
        if runtime is not None and any(is_of_one_process(collector) for collector in collectors):
            collectors = [collector for collector in collectors if not is_of_one_process(collector)]
            collectors.append(runtime)
        return collectors

    def _write_ours(self, store: MetricsStore, format_: Format) -> Iterable[bytes]:
        reading: Reading | None = self._guard.call(
            "metrics", "collect", partial(store.read, exemplars=format_ is OPENMETRICS)
        )
        if reading is None:
            return
        for family in store.texts():
            write = partial(family.write, reading, openmetrics=format_ is OPENMETRICS)
            yield self._guard.call("metrics", "encode", write, default=b"")


def negotiate(accept: str | None) -> tuple[Format, str | None]:
    """Return the format for an ``Accept`` header, and the escaping of names if the client named one we know.

    As Prometheus' own targets do: the best quality first and then the order given, a version nobody here writes falls
    to the next range, and text 0.0.4 where nothing fits.
    """
    ranges = [(*parse_options_header(value), quality) for value, quality in parse_accept_header(accept)]
    refused = {
        format_
        for media_range, options, quality in ranges
        for format_ in FORMATS
        if quality == 0 and "*" not in media_range and _fits(format_, media_range, options)
    }
    for media_range, options, quality in ranges:
        for format_ in FORMATS:
            if quality > 0 and format_ not in refused and _fits(format_, media_range, options):
                return format_, _escaping(format_, options)
    return TEXT_0_0_4, None


def _fits(format_: Format, media_range: str, options: dict[str, str]) -> bool:
    known = (format_.media_type, format_.media_type.partition("/")[0] + "/*", "*/*")
    return media_range.lower() in known and options.get("version", format_.version) == format_.version


def _escaping(format_: Format, options: dict[str, str]) -> str | None:
    """Only a client that names version 1.0.0 knows of escaping, as prometheus_client has it."""
    if format_.version != "1.0.0" or "version" not in options:
        return None
    escaping = options.get("escaping")
    return escaping if escaping in ESCAPINGS else None


def collectors_of(registry: Any, names: AbstractSet[str] | None) -> list[Collector]:
    """Return what to collect one by one, so that one failing collector does not end the whole scrape.

    ``CollectorRegistry.collect`` stops at the first error, and no public name lists its collectors. Where the private
    one is missing, the registry itself is the one collector: all or nothing, but never wrong.
    """
    known = getattr(registry, "_collector_to_names", None)
    if known is None:
        return [registry if names is None else registry.restricted_registry(names)]
    nameless = getattr(registry, "_collectors_without_names", ())
    collectors = [
        collector
        for collector, own in known.copy().items()  # a copy is one step: another thread may register meanwhile
        if names is None or collector in nameless or not names.isdisjoint(own)
    ]
    target = registry.get_target_info()
    return [_Families([InfoMetricFamily("target", "Target metadata", target)]), *collectors] if target else collectors


class _Families(NamedTuple):
    """Families as a collector, which is what the encoders take."""

    families: list[Metric]

    def collect(self) -> list[Metric]:
        return self.families


def _collect(collector: Collector, names: AbstractSet[str] | None) -> list[Metric]:
    families = list(collector.collect())
    return families if names is None else [kept for family in families if (kept := _restrict(family, names)).samples]


def _restrict(family: Metric, names: AbstractSet[str]) -> Metric:
    """Keep the samples of these names, and no unit, as ``CollectorRegistry.restricted_registry`` does."""
    kept = Metric(family.name, family.documentation, family.type)
    kept.samples = [sample for sample in family.samples if sample.name in names]
    return kept
