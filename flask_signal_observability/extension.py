"""The extension: it wires an app's signals to the sinks, and does nothing else."""

from __future__ import annotations

import platform
import weakref
from functools import partial
from typing import Any
from typing import TYPE_CHECKING

import prometheus_client
from flask import Flask

from . import __version__
from . import providers
from . import receivers
from . import shutdown
from . import signals
from . import teardowns
from .access import make_rule
from .boundary import Boundary
from .config import Config
from .errors import ConfigurationError
from .exposition import Exposition
from .flask_release import flask_version
from .guard import Guard
from .pipeline import EXTENSION
from .pipeline import Pipeline
from .redaction import Redaction
from .sinks.audit import AuditSink
from .sinks.logs import LogsSink
from .sinks.metrics import MetricsSink
from .sinks.tracing import TracingSink
from .watchable import Watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Sequence

    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from .metrics_port.server import Server
    from .metrics_push.push import Push

__all__ = ["Observability"]

SHARED = ("sinks", "registry", "tracer_provider")

STAGES = ("open", "attach", "detach", "start", "event", "signal", "context", "finish", "abandon")


class Observability(Watching):
    """Turns a Flask app's signals into spans, metrics, JSON records and audit lines.

    ``Observability(app)``, or ``Observability().init_app(app)`` in a factory; one object may serve several apps, which
    then share the objects given here and nothing else. A second one on the same app changes nothing.

    Args:
        app: the app to observe at once.
        sinks: objects with some of the methods of :class:`~flask_signal_observability.Sink`, called after the four
            built-in ones.
        registry: where the metrics are registered; by default ``prometheus_client.REGISTRY``.
        tracer_provider: where the spans come from; by default the global one, which is set up from the ``OTEL_*``
            variables if nobody has set one.
        settings: any field of :class:`~flask_signal_observability.Config`. A keyword beats
            ``app.config["OBSERVABILITY_<NAME>"]``, which beats the environment variable ``OBSERVABILITY_<NAME>``.

    Raises:
        ConfigurationError: at :meth:`init_app`, for an unknown or impossible setting.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        sinks: Sequence[Any] = (),
        registry: CollectorRegistry | None = None,
        tracer_provider: TracerProvider | None = None,
        **settings: Any,
    ) -> None:
        self._sinks = check_objects(sinks, tracer_provider, registry)
        super().__init__(told_anyhow=bool(self._sinks))
        self._registry = prometheus_client.REGISTRY if registry is None else registry
        self._tracer_provider = tracer_provider
        self._settings = settings
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **settings: Any) -> Flask:
        """Observe ``app`` and return it; one that is observed already stays as it is, but for what is watched here.

        Args:
            app: the application.
            settings: fields of :class:`~flask_signal_observability.Config` for this app alone; they beat those that
                ``Observability()`` was given for all of its apps.

        Raises:
            ConfigurationError: for an unknown or impossible setting, or a registry that holds other metrics of these
                names.
        """
        if not isinstance(app, Flask):
            raise ConfigurationError(f"init_app() takes the Flask application, not {app!r}.")
        check_unshared(settings)
        settings = {**self._settings, **settings} if settings else self._settings  # check knows a call by this object
        present = app.extensions.get(EXTENSION)
        if isinstance(present, Pipeline):
            self._apps.add(app)
            self._serve(present)
            present.keywords.append(settings)
            return app
        if present is not None:
            raise ConfigurationError(
                f"app.extensions[{EXTENSION!r}] is taken by {type(present).__name__}; "
                "two extensions cannot both be called that: remove the other one."
            )
        config = Config.resolve(app.name, app.config, settings)
        if config.sources.keys() - {"service_name"}:
            from .prerequisites import warn_of_vain  # noqa: PLC0415 - of no use where nothing is given

            warn_of_vain(config)
        guard = Guard()
        metrics = MetricsSink(config, app.name, self._registry) if config.metrics else None
        pipeline = Pipeline(app, config, guard, self._build_sinks(app, config, guard, metrics))
        pipeline.keywords.append(settings)
        self._serve(pipeline)
        self._serve_configured(pipeline)
        exposition = None
        if metrics is not None:
            exposition = pipeline.exposition = Exposition(
                self._registry, make_rule(config.metrics_access, guard), guard
            )
            if config.metric_names == "flask_exporter":
                from .flask_exporter_names import offer  # noqa: PLC0415 - what is off is not imported

                offer(app, metrics, self._registry)
            if config.metrics_port is not None:
                pipeline.metrics_server = open_port(config.metrics_port, exposition, metrics, guard)
        if config.audit and config.audit_requests and config.audit_on_error == "closed":
            refuse_unaudited(app)
        boundary = Boundary(app.wsgi_app, pipeline, exposition)
        # An instance attribute is how Flask documents WSGI middleware.
        app.wsgi_app = boundary  # type: ignore[method-assign]
        boundary.warn_of_hidden_view()
        app.extensions[EXTENSION] = pipeline
        connect(app, pipeline, context_signals=config.context_signals, counted=metrics is not None or bool(self._sinks))
        if config.record_handled_exceptions:
            receivers.observe_handled_exceptions(app)
        signals.register(pipeline)
        self._apps.add(app)
        return app

    def flush(self) -> None:
        """Hand over the spans and, with ``metrics_push``, the metrics of these apps in this process now.

        For a process that is frozen or killed when it has answered, as functions are. Waits at most
        ``flush_timeout_seconds`` for each of the two, and never raises. Safe to call from several threads.
        """
        shutdown.flush([app.extensions[EXTENSION] for app in self._apps])

    def _build_sinks(self, app: Flask, config: Config, guard: Guard, metrics: MetricsSink | None) -> list[Any]:
        redaction = Redaction(config.redact)
        sinks: list[Any] = []
        provider = self._tracer_provider
        push_of = load_push() if metrics is not None and config.metrics_push else None
        if config.tracing:
            if provider is None:
                exported = None if metrics is None else metrics.exported
                queue_full = None if metrics is None else partial(metrics.dropped, TracingSink.name, "queue", 1)
                provider = providers.tracer_provider(
                    config.service_name or app.name, exported, config.flush_timeout_seconds, queue_full=queue_full
                )
            # First, so that the others know the trace id.
            sinks.append(tracing_sink(config)(config, provider, guard, redaction, __version__))
        if metrics is not None:
            guard.count = metrics.failed
            metrics.describe_app(**describe(app, config, provider))
            if push_of is not None:
                metrics.push = push_of(
                    self._registry,
                    getattr(provider, "resource", None) or {"service.name": config.service_name or app.name},
                    guard,
                    metrics.dropped,
                    config.flush_timeout_seconds,
                    __version__,
                )
        if config.logs:
            dropped = None if metrics is None else partial(metrics.dropped, LogsSink.name)
            sinks.append(LogsSink(config, dropped=dropped, follows_traces=providers.exports(provider)))
        if config.audit:
            audit = AuditSink(config, guard, repr(app))
            if metrics is not None:
                audit.count, audit.count_written = metrics.audited, metrics.audit_written
            sinks.append(audit)
        if metrics is not None:
            sinks.append(metrics)  # behind the audit sink, which leaves it what to count
        return [*sinks, *self._sinks]


def connect(app: Flask, pipeline: Pipeline, *, context_signals: bool, counted: bool) -> None:
    """Observe the app's signals; ``counted``: somebody counts them, and some have nothing else to tell."""
    receivers.connect(app, pipeline, contexts=context_signals and counted)
    if context_signals:
        teardowns.precede_signals(app, pipeline, counted=counted)


def check_unshared(settings: dict[str, Any]) -> None:
    """Refuse a keyword of ``init_app`` that is an object which all apps share."""
    for name in SHARED:
        if name in settings:
            raise ConfigurationError(
                f"init_app({name}=…): this is no setting of one app; give it to Observability({name}=…)."
            )


def check_objects(sinks: Iterable[Any], tracer_provider: object, registry: object) -> tuple[Any, ...]:
    """Return the sinks as a tuple, if they, the provider and the registry can be what they are given for."""
    if not isinstance(sinks, (list, tuple)):
        raise ConfigurationError(f"sinks={sinks!r} is no list of sinks; write sinks=[my_sink].")
    for sink in sinks:
        if isinstance(sink, type) or not any(callable(getattr(sink, stage, None)) for stage in STAGES):
            raise ConfigurationError(
                f"sinks={sink!r} is no object with a method of a sink ({', '.join(STAGES)}); "
                "derive a class from flask_signal_observability.Sink, override what you need, and give an instance."
            )
    if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
        raise ConfigurationError(f"tracer_provider={tracer_provider!r} has no get_tracer(); give a TracerProvider.")
    if registry is not None and not callable(getattr(registry, "register", None)):
        raise ConfigurationError(
            f"registry={registry!r} has no register(); give a prometheus_client.CollectorRegistry."
        )
    return tuple(sinks)


def tracing_sink(config: Config) -> type[TracingSink]:
    """Return the class of the tracing sink: what is off is not imported."""
    if not config.sql_comments:
        return TracingSink
    from .sinks.sql_comments import CommentingTracingSink  # noqa: PLC0415

    return CommentingTracingSink


def open_port(port: int, exposition: Exposition, metrics: MetricsSink, guard: Guard) -> Server | None:
    """Answer at ``metrics_port``: what is off is not imported.

    Where the server has a process for the port, the worker tells it in the hook that follows.
    """
    from .metrics_port.process import is_kept  # noqa: PLC0415
    from .metrics_port.server import serve  # noqa: PLC0415

    return None if is_kept() and metrics.families.store.group is not None else serve(port, exposition, guard)


def refuse_unaudited(app: Flask) -> None:
    """Answer for the app where it cannot be audited: what is off is not imported."""
    from . import refusal  # noqa: PLC0415

    refusal.install(app)


def load_push() -> Callable[..., Push | None]:
    """Import what pushes metrics: only where it is on, and before a provider is made, as it says there."""
    from .metrics_push.push import push_of  # noqa: PLC0415

    return push_of


def describe(app: Flask, config: Config, provider: TracerProvider | None) -> dict[str, str]:
    """Return the labels of ``flask_app_info`` that come with an app."""
    resource = getattr(provider, "resource", None)
    version = "" if resource is None else str(resource.attributes.get("service.version", ""))
    return {
        "service_name": config.service_name or app.name,
        "service_version": version,
        "flask_version": flask_version(),
        "python_version": platform.python_version(),
    }
