"""What a client, a sender and a view can put into a request, and what must come of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from werkzeug.test import create_environ

from flask_signal_observability import access_logged
from flask_signal_observability import annotate
from flask_signal_observability import parse_audit_line

from ..conftest import Observed
from .site import serve
from .site import SHAPES
from .site import Site
from .site import site

if TYPE_CHECKING:
    from pathlib import Path

LATIN = st.text(st.characters(max_codepoint=255), max_size=40)
"""What a server can put into an environ: bytes, decoded as latin-1 (PEP 3333)."""

TEXT = st.text(max_size=40)
ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(
    ["::ffff:10.0.0.1", "fe80::1%eth0", "[::1]:80", "unknown", "_x"]
)
HEX = "0123456789abcdefABCDEFg-"
TRACEPARENTS = LATIN | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,33}-[0-9a-f]{14,17}-[0-9a-f]{2,3}", fullmatch=True)
PATHS = st.sampled_from([f"/{shape}" for shape in SHAPES]) | LATIN.map("/{}".format)

HEADERS: dict[str, st.SearchStrategy[str]] = {
    "REQUEST_METHOD": st.sampled_from(["GET", "HEAD", "POST", "get", "BREW", "", "PROPFIND", "G\x00T"]) | LATIN,
    "SCRIPT_NAME": st.sampled_from(["/shop", "/shop/", "//"]) | LATIN,
    "QUERY_STRING": st.sampled_from(["a=%", "a=%zz", "%C0%AF", "a=1&a=2&;;&&=", "token=%74op"]) | LATIN,
    "SERVER_PROTOCOL": LATIN,
    "SERVER_NAME": LATIN,
    "SERVER_PORT": LATIN,
    "REMOTE_ADDR": LATIN | ADDRESSES,
    "REMOTE_PORT": LATIN | st.integers().map(str),
    "CONTENT_LENGTH": LATIN | st.integers().map(str),
    "CONTENT_TYPE": LATIN,
    "HTTP_HOST": st.sampled_from(["[::1]:8080", "[::1", "a:b", "shop.example:99999", ""]) | LATIN,
    "HTTP_USER_AGENT": LATIN,
    "HTTP_ACCEPT": LATIN,
    "HTTP_X_REQUEST_ID": LATIN | st.text("ab09._:/+=@-", max_size=140),
    "HTTP_TRACEPARENT": TRACEPARENTS,
    "HTTP_TRACESTATE": LATIN | st.text("ab=,@/ \t", max_size=600),
    "HTTP_BAGGAGE": LATIN | st.text("ab=,;% \t", max_size=600),
    "HTTP_X_FORWARDED_FOR": LATIN | st.lists(ADDRESSES, max_size=5).map(", ".join),
    "HTTP_FORWARDED": LATIN | st.text('for=";,[]:_ 1', max_size=60),
    "HTTP_X_FORWARDED_PROTO": LATIN,
    "HTTP_COOKIE": LATIN | st.text('ab=;"\\ %', max_size=80),
    "HTTP_AUTHORIZATION": LATIN,
}
ENVIRONS = st.fixed_dictionaries({"PATH_INFO": PATHS}, optional=HEADERS)

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=20) | st.decimals() | st.uuids()
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(
    st.sampled_from(["amount", "currency", "deep", "token", "event", "level"]) | TEXT, VALUES, max_size=5
)
KEYS_OF_OURS = ("self", "sender", "_sync_wrapper", "_async_wrapper")


@dataclasses.dataclass
class Target:
    """One observed app for all that comes, beside a bare one."""

    bare: Site
    site: Site
    observed: Observed
    seen_bytes: int = 0

    def try_request(self, environ: dict[str, str], payload: dict[str, Any], sender: Any) -> None:
        """Send one request to both apps, and look at what is new in each output."""
        sent = {**create_environ("/"), **environ}
        for made in (self.bare, self.site):
            made.payload = lambda: {k: v for k, v in payload.items() if k not in KEYS_OF_OURS}
            made.sender = lambda: sender
        assert serve(self.site.app, dict(sent)) == serve(self.bare.app, dict(sent))
        self._check_outputs()

    def _check_outputs(self) -> None:
        spans = self.observed.spans
        encode_spans(spans).SerializeToString()
        self.observed.exporter.clear()
        for line in self.observed.stream.getvalue().splitlines():
            assert isinstance(json.loads(line), dict)
        self.observed.stream.seek(0)
        self.observed.stream.truncate()
        with self.observed.audit_path.open("rb") as file:
            file.seek(self.seen_bytes)
            new = file.read()
        self.seen_bytes += len(new)
        for line in new.decode().splitlines():
            assert WATCHED.match(line) or parse_audit_line(line)

    def check_exposition(self) -> None:
        """Look at the metrics of all that came."""
        written = generate_latest(self.observed.registry).decode()
        samples = [s for family in text_string_to_metric_families(written) for s in family.samples]
        assert samples
        series = [s for s in samples if s.name == "http_server_request_duration_seconds_count"]
        assert len(series) <= MAX_SERIES + 1
        assert all(not math.isnan(s.value) for s in samples)
        assert self.observed.value("http_server_active_requests") == 0
        errors = {tuple(s.labels.values()) for s in samples if s.name == "observability_errors_total" and s.value}
        assert {sink for sink, _ in errors} <= {"watch"}, errors


MAX_SERIES = 200
WATCHED = re.compile(r"\[[^]]+\] paid: \S+ \S+ \S+ \S+$")
"""A line of the watch's own text: each field is one word, whatever it holds."""


def target(directory: Path) -> Target:
    made, bare = site(), site()
    observed = Observed(
        directory,
        made.app,
        strict=False,
        trusted_proxies=1,
        capture_query=True,
        capture_request_headers=("authorization", "x-forwarded-for", "cookie", "host"),
        exclude=("endpoint:excluded",),
        metrics_path=None,
        max_series=MAX_SERIES,
        max_routes=20,
        max_label_values=10,
        provider_options={"sampler": ALWAYS_ON},
    )
    made.audited = lambda sender, payload: access_logged.send(sender, **payload)
    made.annotated = lambda payload: annotate(**payload)
    observed.observability.watch(
        made.paid,
        count="paid_total",
        labels={"currency": ("EUR", "USD")},
        span_event=True,
        log="info",
        audit="paid: {user} {sender} {amount} {deep.id}",
        fields=("amount", "currency", "deep.id", "token", "deep"),
    )
    observed.observability.watch(made.paid, name="other", span_event=True, log="info")
    return Target(bare, made, observed)
