"""The metrics: whether ``/metrics`` answers and parses, who may read it, and which label grows."""

from __future__ import annotations

from collections import Counter
from collections import defaultdict
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from .finding import Report
from .transport import fetch
from .transport import NETWORK_ERRORS
from .transport import reason_and_remedy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

    from ..config import Config
    from .finding import Finding
    from .target import Target

__all__ = ["look", "look_at_running"]

report = Report("metrics")

NEAR_LIMIT = 0.8
"""From this share of a limit on it is told."""

FORBIDDEN, UNAUTHORIZED, OK = 403, 401, 200

OF_THE_HISTOGRAM = ("_bucket", "_sum", "_count")


def look(target: Target) -> Iterator[Finding]:
    """Read the metrics through the app, as a scrape does."""
    config = target.config
    if target.app is None or config is None:
        return
    if not config.metrics:
        yield report.ok("metrics are off")
        return
    yield _access(config)
    path = config.metrics_path
    if path is not None:
        yield from _hidden(target, path)
        yield from _read_through_app(target, config, path)
    elif config.metrics_port is None and not config.metrics_push:
        yield report.warning(
            "metrics_path is None, and there is neither metrics_port nor metrics_push: nobody reads the metrics",
            "set one of the three, or metrics=False",
        )


def _access(config: Config) -> Finding:
    access = config.metrics_access
    if callable(access):
        return report.ok("metrics_access is a function; whom it refuses gets a 403")
    form, _, rest = access.partition(":")
    told = {
        "open": "everybody may read them",
        "private": "loopback and private addresses may read them; others, and what comes through a proxy, get a 403",
        "token": "who sends the token may read them; others get a 401",
        "networks": f"peers in {rest} may read them; others get a 403",
    }
    return report.ok(f"metrics_access={config.shown('metrics_access')}: {told[form]}")


def _hidden(target: Target, path: str) -> Iterator[Finding]:
    rules = [] if target.app is None else [rule for rule in target.app.url_map.iter_rules() if rule.rule == path]
    for rule in rules:
        yield report.warning(
            f"the metrics hide the app's view at {path!r} (endpoint {rule.endpoint!r})",
            "set metrics_path to another path, or take that view out",
        )


def _read_through_app(target: Target, config: Config, path: str) -> Iterator[Finding]:
    if target.app is None:
        return
    access, environ = config.metrics_access, {"REMOTE_ADDR": "127.0.0.1"}
    if isinstance(access, str) and access.startswith("networks:"):
        environ["REMOTE_ADDR"] = access.removeprefix("networks:").partition("/")[0]
    headers = {"Host": "localhost"}
    if isinstance(access, str) and access.startswith("token:"):
        headers["Authorization"] = f"Bearer {access.removeprefix('token:')}"
    response = Client(target.app.wsgi_app).get(path, headers=headers, environ_overrides=environ)
    body = response.get_data(as_text=True)
    if response.status_code in (FORBIDDEN, UNAUTHORIZED):
        yield report.warning(
            f"{path} answers {response.status_code} to a scrape from this machine",
            "let metrics_access return True for your Prometheus",
        )
    elif response.status_code != OK:
        yield report.error(f"{path} answers {response.status}", "see the log; is a middleware in front of the app?")
    else:
        yield from look_at_text(body, path, config, told_elsewhere="serve")


def look_at_running(target: Target) -> Iterator[Finding]:
    """Read the metrics of a running process, which has counted what happens."""
    yield from _port(target)
    url = target.metrics_url
    if url is None:
        return
    config, headers = target.config, {}
    if config is not None and isinstance(config.metrics_access, str) and config.metrics_access.startswith("token:"):
        headers["Authorization"] = f"Bearer {config.metrics_access.removeprefix('token:')}"
    try:
        answer = fetch(url, timeout_seconds=target.timeout_seconds, headers=headers)
    except NETWORK_ERRORS as error:
        reason, _ = reason_and_remedy(error, url, target.timeout_seconds)
        yield report.error(f"{url}: {reason}", "start the app, or mend --url")
        return
    if answer.status != OK:
        text = answer.body[:150].decode("utf-8", "replace").strip()
        yield report.error(f"{url} answers {answer.status}: {text}", "let metrics_access admit who asks, or mend --url")
        return
    yield from look_at_text(answer.body.decode("utf-8", "replace"), url, config)


def _port(target: Target) -> Iterator[Finding]:
    """The app opens its port as it is loaded here, where no running process of it has done so."""
    port = None if target.config is None else target.config.metrics_port
    if port is None or target.pipeline is None or target.pipeline.metrics_server is not None:
        return
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        answer = fetch(url, timeout_seconds=target.timeout_seconds)
        is_ours = answer.status in (FORBIDDEN, UNAUTHORIZED) or b"# TYPE " in answer.body
    except NETWORK_ERRORS:
        is_ours = False
    if is_ours:
        yield report.ok(f"metrics_port {port} is open: a running process answers there")
    else:
        yield report.error(f"metrics_port {port} is taken by something else", "stop that, or set another metrics_port")


def look_at_text(text: str, place: str, config: Config | None, told_elsewhere: str = "") -> Iterator[Finding]:
    """Tell what a scrape says, but for the failures of a stage that was looked at already."""
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError) as error:
        yield report.error(
            f"{place} cannot be parsed: {error}", "is that the metrics? Mend the collector that writes this"
        )
        return
    if not families:
        yield report.error(f"{place} holds no metrics", "is that the address of the metrics?")
        return
    counts = {family.name: len(family.samples) for family in families}
    most = max(counts, key=counts.__getitem__)
    total = sum(counts.values())
    yield report.ok(f"{place} answers and parses: {total} series, most in {most} ({counts[most]})")
    if config is not None:
        yield from _grown(families, config)
    yield from _counted(families, told_elsewhere)


class Trouble(NamedTuple):
    """A counter that should stand at 0."""

    metric: str
    what: str
    remedy: str
    only: tuple[str, str] | None = None


TROUBLES = (
    Trouble(
        "observability_series_overflow_total",
        "{value:g} observations are told as _OTHER, since a label has too many values ({labels})",
        "find what puts ids into it: a route built from data, a template name, an error class made at run time; else "
        "raise max_routes, max_label_values or max_series",
    ),
    Trouble(
        "observability_errors_total",
        "{value:g} failures inside this package or its hooks ({labels})",
        "the log of flask_signal_observability says which",
    ),
    Trouble(
        "observability_dropped_total",
        "{value:g} things were dropped ({labels})",
        "is the collector there, and fast enough?",
    ),
    Trouble(
        "flask_audit_records_total",
        "{value:g} audit lines are lost",
        "make room on the disk and mend the mode; audit_on_error says what becomes of such requests",
        ("outcome", "lost"),
    ),
)


def _counted(families: Iterable[Metric], told_elsewhere: str) -> Iterator[Finding]:
    samples: dict[str, list[Sample]] = defaultdict(list)
    for family in families:
        for sample in family.samples:
            samples[sample.name].append(sample)
    for trouble in TROUBLES:
        for sample in samples[trouble.metric]:
            wanted = trouble.only is None or sample.labels.get(trouble.only[0]) == trouble.only[1]
            is_told = told_elsewhere != "" and sample.labels.get("stage") == told_elsewhere
            if sample.value and wanted and not is_told:
                labels = ", ".join(f"{name}={value}" for name, value in sample.labels.items() if name != "flask_app")
                yield report.warning(trouble.what.format(value=sample.value, labels=labels), trouble.remedy)


def _grown(families: Iterable[Metric], config: Config) -> Iterator[Finding]:
    for family in families:
        if family.name.endswith("_created"):  # prometheus_client's: one for each series of another family
            continue
        values: dict[str, Counter[str]] = defaultdict(Counter)
        series = 0
        for sample in family.samples:
            series += not sample.name.endswith(OF_THE_HISTOGRAM[:2])
            for label, value in sample.labels.items():
                if label != "le":
                    values[label][value] += 1
        limits = _limits(config)
        for label, limit in limits.items():
            if len(values[label]) >= limit * NEAR_LIMIT:
                yield report.warning(
                    f"{family.name}: the label {label} has {len(values[label])} of {limit} values",
                    "beyond them all are _OTHER: find what puts ids into it, or raise "
                    f"{'max_routes' if label == 'http_route' else 'max_label_values'}",
                )
        if series >= config.max_series * NEAR_LIMIT:
            widest = max(values, key=lambda label: len(values[label]))
            yield report.warning(
                f"{family.name} has {series} series (max_series is {config.max_series}); "
                f"its label {widest} alone has {len(values[widest])} values",
                f"take what is unbounded, such as ids, out of {widest}",
            )


def _limits(config: Config) -> dict[str, int]:
    labels: Any = ("template", "category", "error_type", "exception_type")
    return {"http_route": config.max_routes, **dict.fromkeys(labels, config.max_label_values)}
