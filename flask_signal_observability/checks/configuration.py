"""The settings: which are in force, where they come from, and which have no effect."""

from __future__ import annotations

import re
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from ..config import Config
from ..errors import ConfigurationError
from ..prerequisites import given_in_vain
from .finding import Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from ..pipeline import Pipeline
    from .finding import Finding
    from .target import Target

__all__ = ["look"]

report = Report("configuration")

PREFIX = "OBSERVABILITY_"
NEAR = 0.7
"""How like a setting the rest of a variable must be to be taken for it (difflib's ratio)."""

OF_KUBERNETES = re.compile(r".*_(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$")
"""What a Service whose name begins with ``observability`` puts into every pod.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""

COMMON_NAMES = (
    *("app", "application", "flask", "flask_app", "main", "__main__", "run", "server", "service", "unknown_service"),
    *("website", "wsgi", "asgi", "myapp", "my_app", "hello", "api", "web"),
)
"""What Flask calls an app after its module, and what says nothing where many services send to one collector."""


def look(target: Target) -> Iterator[Finding]:
    """Tell of the start, of every setting that is given, and of those that cannot have an effect."""
    yield from _start(target)
    yield from _unknown_variables(target)
    pipeline = target.pipeline
    if pipeline is None:
        return
    yield from _settings(pipeline, target.environ)
    yield from _in_vain(pipeline.config)
    yield from _too_late(pipeline)
    yield from _twice(pipeline)
    yield from _proxies(target, pipeline.config)
    yield _service(pipeline.config)


def _start(target: Target) -> Iterator[Finding]:
    if isinstance(target.failure, ConfigurationError):
        yield report.error(f"the app does not start: {target.failure}", "mend this setting; the message says how")
    elif target.failure is not None:
        what = f"{type(target.failure).__name__}: {target.failure}"
        yield report.error(
            f"the app cannot be loaded: {what}", "flask --app MODULE:NAME run, without check, shows where it fails"
        )
    elif target.app is not None and target.pipeline is None:
        yield report.error(
            f"nothing observes the app {target.app.name!r}", "call Observability(app) where the app is made"
        )
    for warning in target.warnings:
        yield report.warning(f"at the start: {warning}", "the message says it")


def _unknown_variables(target: Target) -> Iterator[Finding]:
    names = [field.name.upper() for field in fields(Config)]
    refused = f"{target.failure} "  # which says so of one of them already
    for key in sorted(target.environ):
        name = key.removeprefix(PREFIX)
        is_ours = key.startswith(PREFIX) and not OF_KUBERNETES.match(key)
        if is_ours and name not in names and f"environment variable {key} " not in refused:
            near = get_close_matches(name, names, 1, NEAR)
            remedy = (
                f"did you mean {PREFIX}{near[0]}?" if near else "help(flask_signal_observability.Config) lists them all"
            )
            yield report.warning(f"environment variable {key} is no setting and has no effect", remedy)


def _settings(pipeline: Pipeline, environ: Mapping[str, str]) -> Iterator[Finding]:
    keywords = pipeline.keywords[0]
    try:
        origins = Config.origins(pipeline.app.config, keywords, environ)
    except ConfigurationError as error:
        yield report.error(f"set after Observability(app), so without effect, and wrong: {error}", "take it out")
        origins = Config.origins({}, keywords, environ)
    for name, key in origins.items():
        yield report.ok(f"{name}={pipeline.config.shown(name)} ({key})")
    yield report.ok(f"{len(fields(Config)) - len(origins)} settings are at their defaults")


def _in_vain(config: Config) -> Iterator[Finding]:
    for name, cause, remedy in given_in_vain(config):
        yield report.warning(f"{name}={config.shown(name)} has no effect: {cause}", f"{remedy}, or take {name} out")


def _too_late(pipeline: Pipeline) -> Iterator[Finding]:
    """An extension reads ``app.config`` when it is given the app."""
    app = pipeline.app
    for field in fields(Config):
        key = PREFIX + field.name.upper()
        if key not in app.config or field.name in pipeline.keywords[0]:
            continue
        try:
            meant = Config.resolve(app.name, {key: app.config[key]}, {}, {})
        except ConfigurationError as error:
            yield report.error(f"set after Observability(app), so without effect, and wrong: {error}", "mend it")
            continue
        if getattr(meant, field.name) != getattr(pipeline.config, field.name):
            yield report.error(
                f'app.config["{key}"] has no effect: {field.name} is {pipeline.config.shown(field.name)}',
                "set it before Observability(app) or init_app(app)",
            )


def _twice(pipeline: Pipeline) -> Iterator[Finding]:
    first, *others = pipeline.keywords
    ignored = {name for other in others if other is not first for name in other}
    if any(other is not first for other in others):
        what = f", and its {', '.join(sorted(ignored))} count for nothing" if ignored else ""
        yield report.warning(
            f"a second Observability was given this app; the first stays{what}", "make one, with all settings"
        )


def _proxies(target: Target, config: Config) -> Iterator[Finding]:
    if config.trusted_proxies and any(isinstance(layer, ProxyFix) for layer in target.layers()):
        yield report.warning(
            f"trusted_proxies={config.trusted_proxies!r} is ignored: ProxyFix has the address already",
            "take trusted_proxies out, or ProxyFix",
        )


def _service(config: Config) -> Finding:
    name = config.service_name or ""
    if name.lower() in COMMON_NAMES:
        return report.warning(
            f"the service is called {name!r}, as many others are",
            'name it: Observability(app, service_name="shop"), or OTEL_SERVICE_NAME=shop',
        )
    return report.ok(f"the service is called {name!r}")
